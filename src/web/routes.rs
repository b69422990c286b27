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
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{
        ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    access::Verdict,
    body::SharedBody,
    guard::{Door, Guard},
    negotiation,
    pages::{Content, Page, PageMaker},
    server::{Answers, Peer},
    status_page,
};
use crate::{
    clock::{Moment, WallClock},
    config::{Paths, Web},
    metrics::{Coding, Exposition, Format, Handler, Output},
    poll::AccountStore,
};

const TEXT: &str = "text/plain; charset=utf-8";

const HTML_HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
];

/// Answers requests.
pub struct Routes {
    exposition: Exposition,
    pages: Pages,
    paths: Paths,
    guard: Arc<Guard>,
    health_without_password: bool,
    /// How many requests may wait for a page at once.
    waiting: Option<Semaphore>,
    reloads: Option<Reloads>,
    stop: CancellationToken,
}

/// The pages that requests share. The two text formats have the same bytes.
struct Pages {
    text: Compressed,
    open_metrics: Compressed,
    status: Page,
    accounts: Page,
}

/// A page in both codings.
struct Compressed {
    plain: Page,
    gzip: Page,
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
    /// Answers with the exposition and what else its accounts show, past `guard`, until `stop` is cancelled. `reloads`
    /// takes requests to reload the configuration, where they are allowed.
    ///
    /// # Errors
    /// When the system has no thread to make pages on.
    pub fn new(
        exposition: Exposition,
        web: &Web,
        guard: Arc<Guard>,
        clock: &WallClock,
        reloads: Option<Reloads>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let waiting = web.max_requests.map(Semaphore::new);
        let pages = Pages::new(&exposition, &web.paths, clock)?;
        let (paths, health_without_password) = (web.paths.clone(), web.health_without_password);
        Ok(Self { exposition, pages, paths, guard, health_without_password, waiting, reloads, stop })
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
            Handler::Status => self.shared(&self.pages.status).await.map_or_else(|refusal| refusal, html),
            Handler::Metrics => self.metrics(request.headers()).await,
            Handler::Healthy => self.healthy(door, request).await,
            Handler::Ready => self.ready(),
        }
    }

    fn store(&self) -> &AccountStore {
        &self.exposition.store
    }

    /// A page as it is now, or why there is none.
    async fn shared(&self, page: &Page) -> Result<SharedBody, Answer> {
        // Held until the page exists, and not while it is sent: how fast a client takes it is nobody else's concern.
        let permit = self.waiting.as_ref().map(Semaphore::try_acquire).transpose();
        let Ok(_permit) = permit else {
            return Err(later(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait for an answer\n"));
        };
        page.body()
            .await
            .ok_or_else(|| answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "this page cannot be made, see the log\n"))
    }

    async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let (format, coding) = (negotiation::format(headers), negotiation::coding(headers));
        let body = match self.shared(self.pages.of(format, coding)).await {
            Ok(body) => body,
            Err(refusal) => return refusal,
        };
        let mut answer = answer(StatusCode::OK, format.content_type(), body);
        answer.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if coding == Coding::Gzip {
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
    }

    /// Tells more of the accounts to those alone who might read the metrics, too.
    async fn healthy<B>(&self, door: &Door, request: &Request<B>) -> Answer {
        let alive = self.store().alive();
        let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let wants_json = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("application/json"));
        if request.headers().get_all(ACCEPT).iter().any(wants_json) {
            // The details are bounded by the rate limit and by `max_requests`, and health itself by neither.
            let may_ask = door.users.is_empty() || request.headers().contains_key(AUTHORIZATION);
            let trusted = may_ask && door.has_room() && self.verdict(door, request).await == Verdict::Granted;
            let details = if trusted { self.shared(&self.pages.accounts).await.ok() } else { None };
            let body = details.unwrap_or_else(|| health_json(alive, None).into());
            return answer(status, "application/json", body);
        }
        let silent = self.store().entries().iter().filter(|entry| !entry.alive()).count();
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
        } else if self.store().ready() {
            answer(StatusCode::OK, TEXT, "ready\n")
        } else {
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "some accounts have not finished their first poll\n")
        }
    }
}

impl Pages {
    fn new(exposition: &Exposition, paths: &Paths, clock: &WallClock) -> io::Result<Self> {
        let store = Arc::clone(&exposition.store);
        let maker = PageMaker::start(move || store.changes())?;
        let text_page = |render: fn(&AccountStore, &Paths, Moment) -> String| {
            let (store, paths, clock) = (Arc::clone(&exposition.store), paths.clone(), clock.clone());
            maker.page(move || Content {
                pieces: Output::from(render(&store, &paths, clock.moment()).as_str()).into_pieces(),
                valid_until: None,
            })
        };
        Ok(Self {
            text: Compressed::new(&maker, exposition, clock, Format::Text0),
            open_metrics: Compressed::new(&maker, exposition, clock, Format::OpenMetrics),
            status: text_page(status_page::render),
            accounts: text_page(|store, _, now| health_json(store.alive(), Some(accounts(store, now)))),
        })
    }

    fn of(&self, format: Format, coding: Coding) -> &Page {
        let page = match format {
            Format::Text0 | Format::Text1 => &self.text,
            Format::OpenMetrics => &self.open_metrics,
        };
        match coding {
            Coding::Identity => &page.plain,
            Coding::Gzip => &page.gzip,
        }
    }
}

impl Compressed {
    fn new(maker: &PageMaker, exposition: &Exposition, clock: &WallClock, format: Format) -> Self {
        let page = |coding| {
            let (exposition, clock) = (exposition.clone(), clock.clone());
            maker.page(move || {
                let (pieces, valid_until) = exposition.encode(format, coding, clock.moment());
                Content { pieces, valid_until }
            })
        };
        Self { plain: page(Coding::Identity), gzip: page(Coding::Gzip) }
    }
}

/// What is known of the accounts, without the words of errors.
fn accounts(store: &AccountStore, now: Moment) -> Value {
    let entries = store.entries();
    let accounts = entries.iter().map(|entry| {
        let state = entry.state();
        let latest = state.latest.as_ref();
        let account = json!({
            "up": latest.map(|_| state.up()),
            "alive": entry.alive(),
            "reason": state.failure().map(|failure| failure.reason.as_str()),
            "failures_in_a_row": state.failures_in_a_row,
            "last_attempt_timestamp_seconds": latest.map(|latest| latest.began.unix_seconds(now)),
            "last_success_timestamp_seconds": state.last_success.map(|success| success.unix_seconds(now)),
        });
        (entry.account().alias.clone(), account)
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
fn html(page: SharedBody) -> Answer {
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
