//! Path to answer:
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | the status page |
//! | the telemetry path, `/metrics` | the exposition; 200 whatever the upstream does |
//! | `/-/healthy`, `/health` | 200 while the poll loops are alive, else 503 |
//! | `/-/reload` | the configuration is read anew (POST or PUT): 200, or 500 with what is wrong with it |
//! | `/-/ready` | 200 once each account has finished a poll and until the exporter stops, else 503 |
//!
//! All stand below the route prefix, take GET and HEAD unless said otherwise, and answer any other method with 405.

use std::{io, sync::Arc};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{
        ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
        CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    access::Verdict,
    body::SharedBody,
    guard::{Door, Guard},
    negotiation,
    server::{Answers, OverBound, Peer},
    status_page,
};
use crate::{
    clock::{Moment, WallClock},
    config::{Paths, Web},
    metrics::{Coding, Exposition, Handler, Shared},
    poll::Board,
};

const TEXT: &str = "text/plain; charset=utf-8";

const HTML_HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
];

/// Answers requests.
#[derive(Debug)]
pub struct Routes {
    exposition: Exposition,
    shared: Shared,
    paths: Paths,
    guard: Arc<Guard>,
    health_without_password: bool,
    /// How many scrapes may be answered at once.
    scrapes: Option<Arc<Semaphore>>,
    clock: WallClock,
    reloads: Option<Reloads>,
    stop: CancellationToken,
}

/// Asks for a reload.
pub type Reloads = mpsc::Sender<ReloadReply>;

/// Where to tell what came of a reload, or what was wrong.
pub type ReloadReply = oneshot::Sender<Result<String, String>>;

type Answer = Response<SharedBody>;

impl Answers for Arc<Routes> {
    type Body = SharedBody;

    async fn answer(self, request: Request<Incoming>) -> io::Result<Answer> {
        Ok(Routes::answer(&self, &request).await)
    }
}

impl Routes {
    /// Answers with the exposition and what else its board tells, past `guard`, until `stop` is cancelled. `reloads`
    /// takes requests to reload the configuration, where they are allowed.
    #[must_use]
    pub fn new(
        exposition: Exposition,
        web: &Web,
        guard: Arc<Guard>,
        clock: WallClock,
        reloads: Option<Reloads>,
        stop: CancellationToken,
    ) -> Self {
        let scrapes = web.max_requests.map(|scrapes| Arc::new(Semaphore::new(scrapes)));
        let shared = Shared::new(exposition.clone(), clock.clone());
        let (paths, health_without_password) = (web.paths.clone(), web.health_without_password);
        Self { exposition, shared, paths, guard, health_without_password, scrapes, clock, reloads, stop }
    }

    /// The answer to `request`, counted.
    pub async fn answer<B>(&self, request: &Request<B>) -> Answer {
        let handler = self.handler(request.uri().path());
        let door = Arc::clone(&self.guard.door());
        let mut answer = match self.refusal(handler, &door, request).await {
            Some(refusal) => refusal,
            None => self.page(handler, &door, request).await,
        };
        for (name, value) in &door.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        self.exposition.own.served(handler, answer.status().as_u16());
        answer
    }

    /// Which page the path of a request means.
    fn handler(&self, path: &str) -> Handler {
        let Some(below) = path.strip_prefix(&self.paths.prefix) else {
            // Whoever leaves the prefix out is told where it is.
            return if path == "/" { Handler::Status } else { Handler::Other };
        };
        match below {
            "" | "/" => Handler::Status,
            "/-/healthy" | "/health" => Handler::Healthy,
            "/-/ready" => Handler::Ready,
            "/-/reload" => Handler::Reload,
            path if path == self.paths.telemetry => Handler::Metrics,
            _ => Handler::Other,
        }
    }

    /// Why a request is not answered with its page, if it isn't.
    async fn refusal<B>(&self, handler: Handler, door: &Door, request: &Request<B>) -> Option<Answer> {
        let is_health = matches!(handler, Handler::Healthy | Handler::Ready);
        if !is_health && request.extensions().get::<OverBound>().is_some() {
            let mut refusal = later(StatusCode::SERVICE_UNAVAILABLE, "too many connections are open\n");
            if request.version() < Version::HTTP_2 {
                refusal.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            return Some(refusal);
        }
        if !is_health && !door.has_room() {
            return Some(later(StatusCode::TOO_MANY_REQUESTS, "too many requests\n"));
        }
        if is_health && self.health_without_password {
            return None;
        }
        match self.verdict(door, request).await {
            Verdict::Granted => None,
            Verdict::Denied => Some(unauthorized()),
            Verdict::Busy => Some(later(StatusCode::TOO_MANY_REQUESTS, "too many passwords are being checked\n")),
        }
    }

    async fn verdict<B>(&self, door: &Door, request: &Request<B>) -> Verdict {
        if door.users.is_empty() {
            return Verdict::Granted;
        }
        let peer = request.extensions().get::<Peer>().map(|Peer(address)| *address);
        self.guard.checker.check(&door.users, request.headers(), peer).await
    }

    async fn page<B>(&self, handler: Handler, door: &Door, request: &Request<B>) -> Answer {
        let readable = matches!(*request.method(), Method::GET | Method::HEAD);
        match handler {
            Handler::Other => answer(StatusCode::NOT_FOUND, TEXT, "not found\n"),
            Handler::Reload => self.reload(request.method()).await,
            _ if !readable => method_not_allowed("GET, HEAD"),
            Handler::Status if request.uri().path() != self.paths.status() => self.to_status_page(),
            Handler::Status => html(status_page::render(self.board(), &self.paths, self.now())),
            Handler::Metrics => self.metrics(request.headers()).await,
            Handler::Healthy => self.healthy(door, request).await,
            Handler::Ready => self.ready(),
        }
    }

    fn board(&self) -> &Board {
        &self.exposition.board
    }

    fn now(&self) -> Moment {
        self.clock.moment()
    }

    async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let Ok(permit) = self.scrape() else {
            return later(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes are being answered\n");
        };
        let (format, coding) = (negotiation::format(headers), negotiation::coding(headers));
        let Some(body) = self.shared.body(format, coding).await else {
            return answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the exposition cannot be made: see the log\n");
        };
        let mut answer = answer(StatusCode::OK, format.content_type(), SharedBody::under(permit, body));
        answer.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if coding == Coding::Gzip {
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
    }

    /// A permit to answer a scrape, where their number is bounded.
    fn scrape(&self) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        self.scrapes.as_ref().map(|scrapes| Arc::clone(scrapes).try_acquire_owned()).transpose()
    }

    /// Tells more of the accounts to those alone who might read the metrics, too.
    async fn healthy<B>(&self, door: &Door, request: &Request<B>) -> Answer {
        let alive = self.board().alive();
        let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let wants_json = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("application/json"));
        if request.headers().get_all(ACCEPT).iter().any(wants_json) {
            // To check a password is work, which the rate limit bounds here, too.
            let may_ask = door.users.is_empty() || (request.headers().contains_key(AUTHORIZATION) && door.has_room());
            let trusted = may_ask && self.verdict(door, request).await == Verdict::Granted;
            let accounts = trusted.then(|| accounts(self.board(), self.now()));
            return answer(status, "application/json", health_json(alive, accounts));
        }
        let silent = self.board().slots().iter().filter(|slot| !slot.alive()).count();
        let text = if alive {
            "healthy\n".to_owned()
        } else {
            format!("{silent} poll loops have been silent for 4 intervals\n")
        };
        answer(status, TEXT, text)
    }

    async fn reload(&self, method: &Method) -> Answer {
        let Some(reloads) = &self.reloads else {
            return answer(StatusCode::FORBIDDEN, TEXT, "reloading by request is off: see --web.enable-lifecycle\n");
        };
        if !matches!(*method, Method::POST | Method::PUT) {
            return method_not_allowed("POST, PUT");
        }
        let (reply, told) = oneshot::channel();
        let sent = reloads.send(reply).await.is_ok();
        match told.await {
            Ok(Ok(came_of_it)) if sent => answer(StatusCode::OK, TEXT, format!("reloaded: {came_of_it}\n")),
            Ok(Err(problems)) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{problems}\n")),
            _ => later(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        }
    }

    fn to_status_page(&self) -> Answer {
        let mut redirect = answer(StatusCode::TEMPORARY_REDIRECT, TEXT, "see the status page\n");
        if let Ok(location) = HeaderValue::from_str(&format!("{}/", self.paths.links)) {
            redirect.headers_mut().insert(LOCATION, location);
        }
        redirect
    }

    fn ready(&self) -> Answer {
        if self.stop.is_cancelled() {
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n")
        } else if self.board().polled() {
            answer(StatusCode::OK, TEXT, "ready\n")
        } else {
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "some accounts have not finished their first poll\n")
        }
    }
}

/// What is known of the accounts, without the words of errors.
fn accounts(board: &Board, now: Moment) -> Value {
    let slots = board.slots();
    let accounts = slots.iter().map(|slot| {
        let state = slot.state();
        let latest = state.latest.as_ref();
        let account = json!({
            "up": state.up(),
            "alive": slot.alive(),
            "reason": state.failure().map(|failure| failure.reason.as_str()),
            "failures_in_a_row": state.failures_in_a_row,
            "last_attempt_timestamp_seconds": latest.map(|latest| latest.began.unix_seconds(now)),
            "last_success_timestamp_seconds": state.last_success.map(|success| success.unix_seconds(now)),
        });
        (slot.account().alias.clone(), account)
    });
    Value::Object(accounts.collect())
}

fn health_json(alive: bool, accounts: Option<Value>) -> String {
    let mut health = json!({ "healthy": alive });
    if let (Some(health), Some(accounts)) = (health.as_object_mut(), accounts) {
        health.insert("accounts".to_owned(), accounts);
    }
    format!("{health}\n")
}

/// A refusal that need not stand for long.
fn later(status: StatusCode, why: &'static str) -> Answer {
    let mut refusal = answer(status, TEXT, why);
    refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    refusal
}

fn unauthorized() -> Answer {
    let mut refusal = answer(StatusCode::UNAUTHORIZED, TEXT, "unauthorized\n");
    let challenge = HeaderValue::from_static("Basic realm=\"koodrive-exporter\", charset=\"UTF-8\"");
    refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    refusal
}

fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "method not allowed\n");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// A page for a browser, which must load nothing, frame nothing and keep nothing.
fn html(page: String) -> Answer {
    let mut html = answer(StatusCode::OK, "text/html; charset=utf-8", page);
    html.headers_mut().extend(HTML_HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    if let Ok(policy) = HeaderValue::from_str(status_page::content_security_policy()) {
        html.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    html
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<SharedBody>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
