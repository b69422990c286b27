//! Who is answered, and with which headers: the web configuration before any page, and before any service of hyper.

use std::sync::Arc;

use http_body_util::Either;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};

use crate::{
    access_policy::{AccessPolicy, WebConfigHandle},
    basic_auth::Verdict,
    body::SharedBody,
    service::{HttpService, Peer},
    settings::Problems,
    web_config::WebConfig,
};

pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(crate) type Answer = Response<SharedBody>;

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) peer: Option<Peer>,
}

/// What the web configuration asks of each request.
pub(crate) struct Access {
    pub(crate) web_config: Arc<WebConfigHandle>,
    /// The challenge of an unauthorized request.
    challenge: HeaderValue,
}

impl Access {
    pub(crate) fn new(web_config: Option<&WebConfig>, realm: &str) -> Result<Self, Problems> {
        let web_config = Arc::new(WebConfigHandle::new(web_config)?);
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        Ok(Self { web_config, challenge: challenge.unwrap_or(HeaderValue::from_static("Basic")) })
    }

    /// Why a request is refused by the rate limit or for its password, if it is.
    pub(crate) async fn refusal(&self, policy: &AccessPolicy, caller: Caller<'_>) -> Option<Answer> {
        if policy.allows_request() {
            self.refusal_of_user(policy, caller).await
        } else {
            Some(later(StatusCode::TOO_MANY_REQUESTS, "too many requests\n"))
        }
    }

    /// Why a request is refused for its password, if it is.
    pub(crate) async fn refusal_of_user(&self, policy: &AccessPolicy, caller: Caller<'_>) -> Option<Answer> {
        match self.verdict(policy, caller).await {
            Verdict::Granted => None,
            Verdict::Denied => {
                let mut refusal = answer(StatusCode::UNAUTHORIZED, TEXT, "unauthorized\n");
                refusal.headers_mut().insert(WWW_AUTHENTICATE, self.challenge.clone());
                Some(refusal)
            }
            Verdict::Busy => Some(later(StatusCode::TOO_MANY_REQUESTS, "too many passwords are being checked\n")),
        }
    }

    pub(crate) async fn verdict(&self, policy: &AccessPolicy, Caller { headers, peer }: Caller<'_>) -> Verdict {
        if policy.file.users.is_empty() {
            return Verdict::Granted;
        }
        self.web_config.passwords.check(&policy.file.users, headers, peer.map(|Peer(address)| address)).await
    }
}

/// A service that answers those alone whom the web configuration lets in.
#[derive(Clone)]
pub struct Protected<S> {
    service: S,
    access: Arc<Access>,
}

impl<S> Protected<S> {
    pub(crate) fn new(service: S, access: Access) -> Self {
        Self { service, access: Arc::new(access) }
    }

    pub(crate) fn web_config(&self) -> Arc<WebConfigHandle> {
        Arc::clone(&self.access.web_config)
    }
}

impl<S: HttpService> HttpService for Protected<S> {
    type Body = Either<S::Body, SharedBody>;
    type Error = S::Error;

    async fn call(&self, request: Request<Incoming>, peer: Option<Peer>) -> Result<Response<Self::Body>, S::Error> {
        let policy = Arc::clone(&self.access.web_config.policy());
        let mut answer = match self.access.refusal(&policy, Caller { headers: request.headers(), peer }).await {
            Some(refusal) => refusal.map(Either::Right),
            None => self.service.call(request, peer).await?.map(Either::Left),
        };
        policy.add_headers(&mut answer);
        Ok(answer)
    }
}

/// A refusal that need not stand for long.
pub(crate) fn later(status: StatusCode, why: &'static str) -> Answer {
    let mut refusal = answer(status, TEXT, why);
    refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    refusal
}

pub(crate) fn answer(status: StatusCode, content_type: HeaderValue, body: impl Into<SharedBody>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
