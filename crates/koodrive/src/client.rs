//! One account's client: one request, one answer.

use std::{
    error::Error,
    io,
    iter::repeat_with,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Limited};
use reqwest::{
    Body,
    header::{AUTHORIZATION, CONTENT_ENCODING, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use secrecy::SecretString;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    account::{Account, Proxy},
    answer::{self, Answer},
    body::{self, MAX_BYTES, TOO_LONG},
    credential::{self, CredentialRead, SecretReader},
    error::{ConnectFailure, PollError},
    exchange::{Exchange, Head, Stage},
    lock,
    no_body::NoBody,
    redaction::redacted,
    resolver::NameError,
    resource::Resource,
    retry_after,
    server_clock::{self, Clock, Correction, ServerClock},
    signature::Signed,
    transport::HttpClient,
};

/// The vendor's page says "58 bits", which mistranslates 位, "places".
const TRACE_ID_LENGTH: usize = 58;

/// What may make a refused request succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The other clock to date it by.
    OtherClock(Correction),
    /// Another secret than before.
    OtherSecret,
}

/// One account's client for one resource.
pub struct Client {
    http: HttpClient,
    account: Arc<Account>,
    resource: &'static Resource,
    clock: Clock,
    server_clock: Arc<ServerClock>,
    /// The other clock that was tried after a refusal and has no answer of the API yet. The next poll begins with it.
    unanswered: Arc<Mutex<Option<Correction>>>,
    secret: SecretReader,
}

impl Client {
    /// A client for `account` over the connections of `http`. `clock` is the host's, and `server_clock` its origin's.
    #[must_use]
    pub fn new(
        http: HttpClient,
        account: Arc<Account>,
        resource: &'static Resource,
        clock: Clock,
        server_clock: Arc<ServerClock>,
    ) -> Self {
        let (unanswered, secret) = Default::default();
        Self { http, account, resource, clock, server_clock, unanswered, secret }
    }

    /// The client, which knows what the one before it for this account at this endpoint knew: the clock that is to be tried,
    /// and the secret that was read last, if its credential is the same.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let is_same = self.account.credential == before.account.credential;
        let secret = if is_same { before.secret.clone() } else { self.secret };
        Self { unanswered: Arc::clone(&before.unanswered), secret, ..self }
    }

    /// Asks for the account's resource, once, until `deadline` at the latest; with `remedy` after a request
    /// that was refused.
    pub async fn ask(&self, deadline: Instant, remedy: Option<Remedy>) -> Exchange {
        let began = Instant::now();
        let timeout = deadline.saturating_duration_since(began);
        let mut exchange = Exchange { trace_id: trace_id(), ..Exchange::unfinished(PollError::Timeout(timeout)) };
        let other = match remedy {
            Some(Remedy::OtherClock(other)) => Some(other),
            Some(Remedy::OtherSecret) => None,
            // Where no time was left for its answer, the next poll begins with it, once.
            None => lock(&self.unanswered).take(),
        };
        exchange.correction = other.unwrap_or_else(|| self.server_clock.correction());
        exchange.is_dated_anew = other.is_some();
        let body = NoBody::default();
        if let Ok(result) = timeout_at(deadline, self.exchange(&mut exchange, body.clone(), began, deadline)).await {
            exchange.result = result;
        }
        if exchange.stage == Stage::Unsent && body.is_written() {
            exchange.stage = Stage::Sent;
        }
        exchange
    }

    /// What may make a refused request succeed: another date than that of the `earlier` requests and its own, or a secret that
    /// has changed since.
    pub async fn remedy(&self, earlier: &[Exchange], refused: &Exchange) -> Option<Remedy> {
        let requests = || earlier.iter().chain([refused]);
        let tried: Vec<_> = requests().map(|request| request.correction).collect();
        let skew = requests().find_map(|request| request.head()?.clock_skew);
        if let Some(other) = self.server_clock.other(&tried, skew) {
            // Never one after the other: what works may be the usual one, which another poll begins with.
            if tried == [self.server_clock.correction()] {
                *lock(&self.unanswered) = Some(other);
            }
            return Some(Remedy::OtherClock(other));
        }
        self.secret.has_changed(&self.account.credential).await.then_some(Remedy::OtherSecret)
    }

    async fn exchange(
        &self,
        exchange: &mut Exchange,
        body: NoBody,
        began: Instant,
        deadline: Instant,
    ) -> Result<Answer, PollError> {
        let secret = self.read_secret(exchange).await?;
        let url = self.account.endpoint.url(self.resource.path);
        let headers = self.headers(url.path(), &secret, exchange).ok_or(PollError::Unsendable)?;
        let authorization = headers.get(AUTHORIZATION).cloned().ok_or(PollError::Unsendable)?;
        let connections = self.http.connections();
        let request = connections.http.get(url).headers(headers).body(Body::wrap(body));
        let response = request.send().await.map_err(|error| self.transport_error(&error, began))?;
        let (mut head, skew) = self.head(&response);
        if matches!(head.status, 502..=504) {
            // The name may lead to another address by now, which a kept connection would never learn.
            self.http.renew(&connections);
        }
        exchange.stage = Stage::Answered(head);
        let encoding = response.headers().get(CONTENT_ENCODING).and_then(|encoding| encoding.to_str().ok());
        let encoding = encoding.unwrap_or_default().to_owned();
        let failed = |error: reqwest::Error| self.transport_error(&error, began);
        let body = async { body::decoded(read_body(response, failed).await?, &encoding) };
        let body = if (200..300).contains(&head.status) { body.await? } else { body_of_refusal(body, deadline).await };
        let result = answer::read(head.status, &body, self.resource, &self.account.units);
        if answer::is_of_the_api(&result) {
            // Others on the way, such as a proxy, do not speak for the API's clock.
            head.clock_skew = skew;
            lock(&self.unanswered).take_if(|unanswered| *unanswered == exchange.correction);
            exchange.stage = Stage::Answered(head);
        }
        if matches!(result, Ok(_) | Err(PollError::InvalidData(_))) {
            let host = self.account.endpoint.host();
            self.server_clock.accepted(exchange.correction, skew, exchange.is_dated_anew, host);
        }
        result.map_err(|error| match error {
            PollError::Refused { reason, refusal } => {
                PollError::Refused { reason, refusal: redacted(refusal, &authorization) }
            }
            error => error,
        })
    }

    /// Says what failed, and on the way to which host. The text of an error of the HTTP library contains the URL, so only
    /// the text of its innermost cause is used.
    fn transport_error(&self, error: &reqwest::Error, began: Instant) -> PollError {
        let target = self.account.endpoint.host_and_port();
        let (mut cause, mut by_proxy): (&dyn Error, bool) = (error, false);
        while let Some(deeper) = cause.source() {
            cause = deeper;
            if let Some(tls) = tls_error(cause) {
                let text = tls.to_string();
                let text = if text.contains("CaUsedAsEndEntity") { CA_AS_SERVER } else { &text };
                return PollError::Tls(format!("{target}: {text}"));
            }
            let kind = cause.downcast_ref().map(io::Error::kind);
            let is_bad_chunk = matches!(kind, Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput));
            if cause.downcast_ref().is_some_and(hyper::Error::is_parse) || is_bad_chunk && !error.is_connect() {
                return PollError::Decode("it is not HTTP");
            }
            by_proxy |= cause.to_string().starts_with("tunnel error");
        }
        if error.is_timeout() {
            return PollError::Timeout(began.elapsed());
        }
        let failure = if cause.is::<NameError>() {
            ConnectFailure::NameLookup
        } else if cause.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::ConnectionRefused) {
            ConnectFailure::Refused
        } else if by_proxy {
            ConnectFailure::ProxyTunnel
        } else {
            ConnectFailure::Other
        };
        let target = match &self.account.transport.proxy {
            Proxy::Direct => target,
            proxy @ Proxy::Url(_) if failure == ConnectFailure::ProxyTunnel => {
                format!("{target} by the proxy {proxy}, which opened no tunnel")
            }
            proxy @ Proxy::Url(_) => format!("{target} by the proxy {proxy}"),
        };
        PollError::Connect(failure, format!("{target}: {cause}"))
    }

    async fn read_secret(&self, exchange: &mut Exchange) -> Result<SecretString, PollError> {
        exchange.credential = CredentialRead::Failed;
        let (secret, rotated) = self.secret.read(&self.account.credential).await?;
        exchange.credential = if rotated { CredentialRead::Rotated } else { CredentialRead::Known };
        Ok(secret)
    }

    /// What the answer says before its body, and the local clock minus its `Date` header, in seconds.
    fn head(&self, response: &reqwest::Response) -> (Head, Option<f64>) {
        let (local, status) = ((self.clock)(), response.status().as_u16());
        let text = |name| response.headers().get(name)?.to_str().ok();
        let date = text(DATE).and_then(server_clock::plausible_date);
        let retry_after = text(RETRY_AFTER).filter(|_| matches!(status, 429 | 503));
        let retry_after = retry_after.and_then(|value| retry_after::parse(value, date, local));
        let skew = date.map(|date| server_clock::seconds_between(date, local));
        (Head { status, clock_skew: None, retry_after }, skew)
    }

    /// The request's headers; `None` where one of them can't be sent.
    fn headers(&self, path: &str, secret: &SecretString, exchange: &Exchange) -> Option<HeaderMap> {
        let x_date = exchange.correction.x_date((self.clock)())?;
        let Account { endpoint, user_id, language, credential, .. } = &*self.account;
        let user_id = user_id.as_str();
        let signed = Signed { host: endpoint.host(), path, x_date: &x_date, user_id };
        Some(HeaderMap::from_iter([
            (AUTHORIZATION, credential::authorization(credential, secret, &signed)?),
            (HeaderName::from_static("x-user-id"), HeaderValue::from_str(user_id).ok()?),
            (HeaderName::from_static("x-date"), HeaderValue::from_str(&x_date).ok()?),
            (HeaderName::from_static("x-traceid"), HeaderValue::from_str(&exchange.trace_id).ok()?),
            (HeaderName::from_static("language"), HeaderValue::from_str(language.as_str()).ok()?),
        ]))
    }
}

/// A refusal's body, where it is readable. Its status alone says enough where the body does not come: half of the time that
/// is left is for another request.
async fn body_of_refusal(body: impl Future<Output = Result<Vec<u8>, PollError>>, deadline: Instant) -> Vec<u8> {
    let wait = deadline.saturating_duration_since(Instant::now()) / 2;
    timeout(wait, body).await.ok().and_then(Result::ok).unwrap_or_default()
}

/// The answer's body, as long as it is no longer than a good answer can be.
async fn read_body(
    response: reqwest::Response,
    failed: impl Fn(reqwest::Error) -> PollError,
) -> Result<Vec<u8>, PollError> {
    let body = Limited::new(Body::from(response), MAX_BYTES).collect().await;
    let body = body.map_err(|error| error.downcast().map_or(TOO_LONG, |error| failed(*error)))?;
    Ok(body.to_bytes().into())
}

/// A certificate that was made for an authority, as `openssl req -x509` makes it.
const CA_AS_SERVER: &str = "the server's certificate is that of an authority (CA:TRUE). Give the server one that is not: \
                            with openssl req -x509, add -addext basicConstraints=critical,CA:FALSE";

/// The TLS error that `cause` is or, as one I/O error or several, wraps.
#[must_use]
pub fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = || tls_error(cause.downcast_ref::<std::io::Error>()?.get_ref()?);
    cause.downcast_ref().or_else(wrapped)
}

fn trace_id() -> String {
    repeat_with(fastrand::alphanumeric).take(TRACE_ID_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::pending,
        pin::Pin,
        task::{Context, Poll},
        time::Duration,
    };

    use bytes::Bytes;
    use hyper::body::{Body, Frame};
    use tokio::time::sleep;

    use super::*;

    /// A body that does not say how long it is.
    struct Chunks(Vec<usize>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop().map(|length| Ok(Frame::data(vec![b' '; length].into()))))
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_64_kib_whether_or_not_it_says_its_length() {
        const BOUND: usize = 64 * 1024;
        let read = async |content: reqwest::Body| {
            read_body(hyper::Response::new(content).into(), |error| panic!("{error}")).await
        };
        for chunks in [vec![BOUND], vec![BOUND - 1, 1], vec![0, 7, BOUND - 7]] {
            assert_eq!(read(reqwest::Body::wrap(Chunks(chunks))).await.unwrap().len(), BOUND);
        }
        for chunks in [vec![BOUND + 1], vec![BOUND, 1], vec![1, BOUND], vec![BOUND, BOUND]] {
            assert!(matches!(read(reqwest::Body::wrap(Chunks(chunks))).await, Err(PollError::Decode(_))));
        }
        assert_eq!(read(vec![b' '; BOUND].into()).await.unwrap().len(), BOUND);
        assert!(matches!(read(vec![b' '; BOUND + 1].into()).await, Err(PollError::Decode(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn body_of_a_refusal_is_waited_for_until_half_of_the_time_is_left() {
        let (start, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(10));
        let slow = async {
            sleep(Duration::from_millis(4900)).await;
            Ok(vec![7])
        };
        assert_eq!(body_of_refusal(slow, deadline).await, [7]);
        assert!(body_of_refusal(pending(), deadline).await.is_empty());
        assert_eq!(start.elapsed(), Duration::from_millis(4900 + 2550));
    }

    #[test]
    fn trace_ids_are_58_letters_and_digits_and_fresh() {
        let (one, other) = (trace_id(), trace_id());
        assert!(one.len() == 58 && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, other);
    }
}
