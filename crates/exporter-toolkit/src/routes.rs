//! Path to answer:
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | the landing page |
//! | the telemetry path, `/metrics` | the metrics |
//! | `/-/healthy`, `/health` | 200 while the exporter works, else 503 |
//! | `/-/reload` | the configuration is read again (POST or PUT): 200, or 500 with what is wrong with it |
//! | `/-/ready` | 200 once the exporter is ready and until it stops, else 503 |
//!
//! All stand below the route prefix, take GET and HEAD unless said otherwise, and answer any other method with 405.

use std::{borrow::Cow, collections::HashSet, convert::Infallible, sync::Arc};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{
        ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, HeaderName,
        HeaderValue, LOCATION, REFERRER_POLICY, REFRESH, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{Access, Answer, Caller, TEXT, answer, later},
    access_policy::AccessPolicy,
    basic_auth::Verdict,
    body::SharedBody,
    collector::{Collector, health_json},
    encoder::Format,
    metrics::{Handler, ServerMetrics},
    negotiation,
    options::{Error, Options},
    output::Coding,
    page_set::PageSet,
    pages::{Page, Version},
    paths::Paths,
    service::{HttpService, Peer},
};

const HTML_HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
];

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// The headers of a request that choose the metrics' form.
const NEGOTIATED_BY: HeaderValue = HeaderValue::from_static("accept, accept-encoding");

/// What requests are answered from.
pub(crate) struct RouteTable {
    collector: Arc<dyn Collector>,
    pub(crate) metrics: Arc<ServerMetrics>,
    pages: PageSet,
    paths: Paths,
    pub(crate) access: Access,
    health_without_password: bool,
    /// How many requests may wait for a page at once.
    waiting: Option<Semaphore>,
    reloads: Option<Reloads>,
    stop: CancellationToken,
}

/// Asks for a reload.
pub type Reloads = mpsc::Sender<ReloadReply>;

/// Where to send the result of a reload, or what was wrong.
pub type ReloadReply = oneshot::Sender<Result<String, String>>;

/// Answers requests: a service of `hyper`.
#[derive(Clone)]
pub struct Routes(pub(crate) Arc<RouteTable>);

impl Routes {
    /// The answer to a request, whose body is not read. Its [`Peer`] is the one among its extensions.
    pub async fn answer<B>(&self, request: &Request<B>) -> Response<SharedBody> {
        self.0.answer(request, request.extensions().get().copied()).await
    }
}

impl HttpService for Routes {
    type Body = SharedBody;
    type Error = Infallible;

    async fn call(&self, request: Request<Incoming>, peer: Option<Peer>) -> Result<Answer, Infallible> {
        Ok(self.0.answer(&request, peer).await)
    }
}

impl RouteTable {
    pub(crate) fn new(
        collector: Arc<dyn Collector>,
        options: &Options,
        reloads: Option<Reloads>,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let access = Access::new(options.web_config.as_ref(), &options.realm)?;
        let metrics = Arc::<ServerMetrics>::default();
        let waiting = options.max_requests.map(Semaphore::new);
        let pages = PageSet::new(&collector, options, &metrics)?;
        let (paths, health_without_password) = (options.paths.clone(), options.health_without_password);
        Ok(Self { collector, metrics, pages, paths, access, health_without_password, waiting, reloads, stop })
    }

    /// The answer to `request`, counted.
    async fn answer<B>(&self, request: &Request<B>, peer: Option<Peer>) -> Answer {
        let handler = self.handler(request.uri().path());
        let policy = Arc::clone(&self.access.web_config.policy());
        let caller = Caller { headers: request.headers(), peer };
        let mut answer = match self.refusal(handler, &policy, caller).await {
            Some(refusal) => refusal,
            None => self.page(handler, &policy, request, caller).await,
        };
        policy.add_headers(&mut answer);
        self.metrics.answered(handler, answer.status().as_u16());
        answer
    }

    /// Which page the path of a request means.
    fn handler(&self, path: &str) -> Handler {
        let Some(below) = path.strip_prefix(&self.paths.prefix) else {
            // Without the prefix, a redirect shows where it is.
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
    async fn refusal(&self, handler: Handler, policy: &AccessPolicy, caller: Caller<'_>) -> Option<Answer> {
        let is_health = matches!(handler, Handler::Healthy | Handler::Ready);
        match (is_health, self.health_without_password) {
            (false, _) => self.access.refusal(policy, caller).await,
            (true, false) => self.access.refusal_of_user(policy, caller).await,
            (true, true) => None,
        }
    }

    async fn page<B>(
        &self,
        handler: Handler,
        policy: &AccessPolicy,
        request: &Request<B>,
        caller: Caller<'_>,
    ) -> Answer {
        let readable = matches!(*request.method(), Method::GET | Method::HEAD);
        match handler {
            Handler::Other => answer(StatusCode::NOT_FOUND, TEXT, "not found\n"),
            Handler::Reload => self.reload(request.method()).await,
            _ if !readable => method_not_allowed("GET, HEAD"),
            Handler::Status if request.uri().path() != self.paths.landing_page() => self.to_landing_page(),
            Handler::Status => self.landing_page(request.uri().query()).await,
            Handler::Metrics => self.metrics(request.headers(), request.uri().query()).await,
            Handler::Healthy => self.healthy(policy, caller).await,
            Handler::Ready => self.ready(),
        }
    }

    /// A page as it is now, or why there is none.
    async fn shared(&self, page: &Page) -> Result<Arc<Version>, Answer> {
        // Held until the page exists, and not while it is sent: how fast a client takes it is nobody else's concern.
        let permit = self.waiting.as_ref().map(Semaphore::try_acquire).transpose();
        let Ok(_permit) = permit else {
            return Err(later(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait for an answer\n"));
        };
        page.version()
            .await
            .ok_or_else(|| answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "this page cannot be made, see the log\n"))
    }

    async fn metrics(&self, headers: &HeaderMap, query: Option<&str>) -> Answer {
        let (format, mut coding) = (negotiation::format(headers), negotiation::coding(headers));
        let names = || names(query.unwrap_or_default());
        let is_whole = names().next().is_none();
        if !is_whole {
            // Its families are parts of the whole page, which parts of a compressed one are not.
            coding = Coding::Identity;
        }
        let version = match self.shared(self.pages.of(format, coding)).await {
            Ok(version) => version,
            Err(refusal) => return refusal,
        };
        let body = if is_whole {
            version.into()
        } else {
            // Collected no sooner than here: thousands of requests may wait.
            let names: HashSet<_> = names().collect();
            let places = version.places_of(|family| names.contains(family));
            SharedBody::of(version, places)
        };
        let mut answer = answer(StatusCode::OK, content_type(format), body);
        answer.headers_mut().insert(VARY, NEGOTIATED_BY);
        if coding == Coding::Gzip {
            answer.headers_mut().insert(CONTENT_ENCODING, GZIP);
        }
        answer
    }

    /// A page for a browser, which must load nothing, frame nothing and keep nothing.
    async fn landing_page(&self, query: Option<&str>) -> Answer {
        let mut answer = match self.shared(&self.pages.landing_page).await {
            Ok(version) => answer(StatusCode::OK, HTML, version),
            Err(refusal) => return refusal,
        };
        answer.headers_mut().extend(HTML_HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        if let Ok(policy) = HeaderValue::from_str(self.collector.content_security_policy()) {
            answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        if let Some(seconds) = query.and_then(refresh_interval) {
            answer.headers_mut().insert(REFRESH, seconds.into());
        }
        answer
    }

    /// Shows details to those alone who might read the metrics, too.
    async fn healthy(&self, policy: &AccessPolicy, caller: Caller<'_>) -> Answer {
        let health = self.collector.health();
        let status = if health.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let wants_json = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("application/json"));
        if caller.headers.get_all(ACCEPT).iter().any(wants_json) {
            // The details are bounded by the rate limit and by `max_requests`, and health itself by neither.
            let may_ask = policy.file.users.is_empty() || caller.headers.contains_key(AUTHORIZATION);
            let trusted =
                may_ask && policy.allows_request() && self.access.verdict(policy, caller).await == Verdict::Granted;
            let details = if trusted { self.shared(&self.pages.health).await.ok() } else { None };
            let body = details.map_or_else(|| health_json(health.is_ok()).into(), SharedBody::from);
            return answer(status, JSON, body);
        }
        match health {
            Ok(()) => answer(status, TEXT, "healthy\n"),
            Err(why) => answer(status, TEXT, format!("{why}\n")),
        }
    }

    async fn reload(&self, method: &Method) -> Answer {
        let Some(reloads) = &self.reloads else {
            return answer(StatusCode::FORBIDDEN, TEXT, "reloading by request is off: see --web.enable-lifecycle\n");
        };
        if !matches!(*method, Method::POST | Method::PUT) {
            return method_not_allowed("POST, PUT");
        }
        let (reply, result) = oneshot::channel();
        let sent = reloads.send(reply).await.is_ok();
        match result.await {
            Ok(Ok(changes)) if sent => answer(StatusCode::OK, TEXT, format!("reloaded: {changes}\n")),
            Ok(Err(problems)) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{problems}\n")),
            _ => later(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        }
    }

    fn to_landing_page(&self) -> Answer {
        let mut redirect = answer(StatusCode::TEMPORARY_REDIRECT, TEXT, "see the landing page\n");
        if let Ok(location) = HeaderValue::from_str(&format!("{}/", self.paths.links)) {
            redirect.headers_mut().insert(LOCATION, location);
        }
        redirect
    }

    fn ready(&self) -> Answer {
        let readiness = if self.stop.is_cancelled() { Err("stopping".to_owned()) } else { self.collector.readiness() };
        match readiness {
            Ok(()) => answer(StatusCode::OK, TEXT, "ready\n"),
            Err(why) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        }
    }
}

/// Constants, whose bytes are not checked at each request.
fn content_type(format: Format) -> HeaderValue {
    match format {
        Format::Text0 => const { HeaderValue::from_static(Format::Text0.content_type()) },
        Format::Text1 => const { HeaderValue::from_static(Format::Text1.content_type()) },
        Format::OpenMetrics => const { HeaderValue::from_static(Format::OpenMetrics.content_type()) },
        Format::OpenMetricsCreated => const { HeaderValue::from_static(Format::OpenMetricsCreated.content_type()) },
    }
}

/// The families that a scrape asks for, as with Go's `promhttp`: `?name[]=FAMILY&name[]=...`.
fn names(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "name[]").map(|(_, name)| name)
}

/// After how many seconds a browser should load the page again: a query `refresh=10`.
fn refresh_interval(query: &str) -> Option<u16> {
    let seconds = query.strip_prefix("refresh=")?.parse().ok()?;
    (1..=3600).contains(&seconds).then_some(seconds)
}

fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "method not allowed\n");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}
