//! Path to answer:
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | the status page |
//! | the telemetry path, `/metrics` | the exposition; 200 whatever the upstream does |
//! | `/-/healthy`, `/health` | 200 while the poll loops are alive, else 503 |
//! | `/-/ready` | 200 once each account has finished a poll and until the exporter stops, else 503 |
//!
//! All take GET and HEAD, and any other method is answered with 405.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{
        ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
        REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{negotiation, status_page};
use crate::{
    clock::WallClock,
    metrics::{Coding, Handler, Shared},
    poll::{Board, Now},
};

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers requests.
#[derive(Debug)]
pub struct Routes {
    /// All that is shown.
    pub shared: Arc<Shared>,
    /// The path of the exposition.
    pub telemetry_path: String,
    /// The time of day.
    pub clock: WallClock,
    /// Cancelled when the exporter stops.
    pub stop: CancellationToken,
}

type Answer = Response<Full<Bytes>>;

impl Routes {
    /// The answer to `request`, counted.
    pub async fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        let handler = match path {
            "/" => Handler::Status,
            "/-/healthy" | "/health" => Handler::Healthy,
            "/-/ready" => Handler::Ready,
            path if path == self.telemetry_path => Handler::Metrics,
            _ => Handler::Other,
        };
        let readable = matches!(*request.method(), Method::GET | Method::HEAD);
        let answer = match handler {
            Handler::Other => answer(StatusCode::NOT_FOUND, TEXT, "not found\n"),
            _ if !readable => method_not_allowed(),
            Handler::Status => page(status_page::render(self.board(), &self.telemetry_path, self.now())),
            Handler::Metrics => self.metrics(request.headers()).await,
            Handler::Healthy => self.healthy(request.headers()),
            Handler::Ready => self.ready(),
        };
        self.shared.exposition().own.served(handler, answer.status().as_u16());
        answer
    }

    fn board(&self) -> &Board {
        &self.shared.exposition().board
    }

    fn now(&self) -> Now {
        Now { monotonic: Instant::now(), wall: self.clock.now() }
    }

    async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let (format, coding) = (negotiation::format(headers), negotiation::coding(headers));
        let Some(body) = self.shared.body(format, coding).await else {
            return answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the exposition cannot be made: see the log\n");
        };
        let mut answer = answer(StatusCode::OK, format.content_type(), body);
        answer.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        if coding == Coding::Gzip {
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
    }

    fn healthy(&self, headers: &HeaderMap) -> Answer {
        let alive = self.board().alive();
        let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let wants_json = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("application/json"));
        if headers.get_all(ACCEPT).iter().any(wants_json) {
            return answer(status, "application/json", accounts_json(self.board(), alive, self.now()));
        }
        let silent = self.board().slots().iter().filter(|slot| !slot.alive()).count();
        let text = if alive {
            "healthy\n".to_owned()
        } else {
            format!("{silent} poll loops have been silent for 4 intervals\n")
        };
        answer(status, TEXT, text)
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

/// What is known of the accounts, without the words of errors: this page may be readable by everybody.
fn accounts_json(board: &Board, alive: bool, now: Now) -> String {
    let accounts = board.slots().iter().map(|slot| {
        let state = slot.state();
        let latest = state.latest.as_ref();
        let account = json!({
            "up": state.up(),
            "alive": slot.alive(),
            "reason": latest.and_then(|latest| latest.failure.as_ref()).map(|(reason, _)| reason.as_str()),
            "failures_in_a_row": state.failures_in_a_row,
            "last_attempt_timestamp_seconds": latest.map(|latest| latest.began.unix_seconds(now)),
            "last_success_timestamp_seconds": state.last_success.map(|success| success.unix_seconds(now)),
        });
        (slot.account().alias.clone(), account)
    });
    let accounts: serde_json::Map<_, _> = accounts.collect();
    format!("{}\n", json!({ "healthy": alive, "accounts": accounts }))
}

fn method_not_allowed() -> Answer {
    let mut answer = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "method not allowed\n");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

/// A page for a browser, which must load nothing, frame nothing and keep nothing.
fn page(html: String) -> Answer {
    let mut page = answer(StatusCode::OK, "text/html; charset=utf-8", html);
    let headers = page.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    page
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
