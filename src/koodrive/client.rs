//! One account's client: one request, one answer.

use std::{
    error::Error,
    iter::repeat_with,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::{
    answer::{self, Overview},
    error::PollError,
    retry_after,
    server_clock::ServerClock,
    signature::Signed,
};
use crate::{
    account::{Account, Credential, SecretError},
    clock::WallClock,
};

/// A good answer has some hundred bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// `X-Date` may be 15 minutes old and must not be later than the server's now, so it is set back by
/// more than the usual difference between two synchronised clocks.
const BACK_DATE: Duration = Duration::from_secs(5);

/// The vendor's page says "58 bits", which mistranslates 位, "places".
const TRACE_ID_LENGTH: usize = 58;

const X_DATE: HeaderName = HeaderName::from_static("x-date");
const X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const X_TRACEID: HeaderName = HeaderName::from_static("x-traceid");
const LANGUAGE: HeaderName = HeaderName::from_static("language");

/// One account's client.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    account: Arc<Account>,
    clock: WallClock,
    server_clock: Arc<ServerClock>,
    /// The secret as last read.
    known_secret: Mutex<Option<SecretString>>,
    /// Held while the secret is read: a file that hangs costs one thread, not one for each poll.
    reading: Arc<tokio::sync::Mutex<()>>,
}

/// One request and what came of it.
#[derive(Debug)]
pub struct Exchange {
    /// The request's `X-Traceid`, by which the vendor's support finds it; empty where there was no request.
    pub trace_id: String,
    /// How the credential was read for it.
    pub credential: CredentialRead,
    /// Whether a request was sent at all: none is without a credential.
    pub sent: bool,
    /// The answer's HTTP status, where one came.
    pub status: Option<u16>,
    /// The local clock minus the answer's `Date` header, in seconds, where it came with one.
    pub clock_skew: Option<f64>,
    /// How long the API asks to be left alone, where it answered 429 or 503 and says so.
    pub retry_after: Option<Duration>,
    /// By how much `X-Date` was corrected, in milliseconds.
    pub date_correction: i64,
    /// The overview, or why there is none.
    pub result: Result<Overview, PollError>,
}

/// How a credential was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CredentialRead {
    /// It is the one that was known, or the first.
    #[default]
    Known,
    /// It is another one than before.
    Rotated,
    /// It can't be read.
    Failed,
}

impl Exchange {
    /// One that has not come to anything yet, and which ends with `error` unless it does.
    #[must_use]
    pub fn unfinished(error: PollError) -> Self {
        Self {
            trace_id: String::new(),
            credential: CredentialRead::Known,
            sent: false,
            status: None,
            clock_skew: None,
            retry_after: None,
            date_correction: 0,
            result: Err(error),
        }
    }
}

impl Client {
    /// A client for `account` over the connections of `http`. `server_clock` is its origin's.
    #[must_use]
    pub fn new(http: reqwest::Client, account: Arc<Account>, clock: WallClock, server_clock: Arc<ServerClock>) -> Self {
        Self { http, account, clock, server_clock, known_secret: Mutex::default(), reading: Arc::default() }
    }

    /// Asks for the account's space usage overview, once, until `deadline` at the latest.
    pub async fn overview(&self, deadline: Instant) -> Exchange {
        let timeout = deadline.saturating_duration_since(Instant::now());
        let mut exchange = Exchange { trace_id: trace_id(), ..Exchange::unfinished(PollError::Timeout(timeout)) };
        if let Ok(result) = tokio::time::timeout_at(deadline, self.ask(&mut exchange, timeout)).await {
            exchange.result = result;
        }
        exchange
    }

    /// Whether the request of a refused exchange would go out with another secret or date now.
    pub async fn would_differ(&self, refused: &Exchange) -> bool {
        if self.server_clock.differs_from(refused.date_correction) {
            return true;
        }
        let Ok(secret) = self.secret().await else { return false };
        !self.knows(&secret)
    }

    async fn ask(&self, exchange: &mut Exchange, timeout: Duration) -> Result<Overview, PollError> {
        let secret = self.read_secret(exchange).await?;
        exchange.date_correction = self.server_clock.correction();
        let headers = self.headers(&secret, &exchange.trace_id).ok_or(PollError::Unsendable)?;
        let credential = headers.get(AUTHORIZATION).cloned().ok_or(PollError::Unsendable)?;
        let request = self.http.get(self.account.endpoint.overview().clone()).headers(headers);
        exchange.sent = true;
        let response = request.send().await.map_err(|error| transport_error(&error, timeout))?;
        let status = response.status().as_u16();
        exchange.status = Some(status);
        self.read_times(response.headers(), status, exchange);
        let body = body(response, timeout).await?;
        answer::read(status, &body, self.account.units).map_err(|error| without_credential(error, &credential))
    }

    /// The secret as it is now, noting whether that is another one than before.
    async fn read_secret(&self, exchange: &mut Exchange) -> Result<SecretString, PollError> {
        exchange.credential = CredentialRead::Failed;
        let secret = self.secret().await?;
        let rotated = !self.knows(&secret);
        let first = self.known_secret().replace(secret.clone()).is_none();
        exchange.credential = if rotated && !first { CredentialRead::Rotated } else { CredentialRead::Known };
        Ok(secret)
    }

    async fn secret(&self) -> Result<SecretString, SecretError> {
        let reading = Arc::clone(&self.reading).lock_owned().await;
        self.account.credential.secret().read(reading).await
    }

    fn knows(&self, secret: &SecretString) -> bool {
        self.known_secret().as_ref().is_some_and(|known| known.expose_secret() == secret.expose_secret())
    }

    fn known_secret(&self) -> MutexGuard<'_, Option<SecretString>> {
        self.known_secret.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the answer says of the server's clock and patience.
    fn read_times(&self, headers: &HeaderMap, status: u16, exchange: &mut Exchange) {
        let local = self.clock.now();
        let text = |name| headers.get(name)?.to_str().ok();
        let date = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
        if let Some(date) = date {
            exchange.clock_skew = Some(self.server_clock.observe(local, date, self.account.endpoint.host()));
        }
        if matches!(status, 429 | 503) {
            exchange.retry_after = text(RETRY_AFTER).and_then(|value| retry_after::parse(value, date.unwrap_or(local)));
        }
    }

    /// The request's headers; `None` where one of them can't be sent.
    fn headers(&self, secret: &SecretString, trace_id: &str) -> Option<HeaderMap> {
        let server_now = self.server_clock.now(self.clock.now());
        let x_date = x_date(Timestamp::try_from(server_now.checked_sub(BACK_DATE)?).ok()?);
        let user_id = self.account.user_id.as_str();
        let authorization = match &self.account.credential {
            Credential::Token { prefix, .. } => bearer(prefix, secret.expose_secret()),
            Credential::App { app_id, .. } => {
                let endpoint = &self.account.endpoint;
                let signed =
                    Signed { host: endpoint.host(), path: endpoint.overview().path(), x_date: &x_date, user_id };
                signed.authorization(app_id.as_str(), secret.expose_secret())
            }
        };
        let mut authorization = HeaderValue::try_from(authorization).ok()?;
        authorization.set_sensitive(true);
        Some(HeaderMap::from_iter([
            (AUTHORIZATION, authorization),
            (X_USER_ID, HeaderValue::from_str(user_id).ok()?),
            (X_DATE, HeaderValue::try_from(x_date).ok()?),
            (X_TRACEID, HeaderValue::from_str(trace_id).ok()?),
            (LANGUAGE, HeaderValue::from_str(self.account.language.as_str()).ok()?),
        ]))
    }
}

/// The answer's body, as long as it is no longer than a good answer can be.
async fn body(mut response: reqwest::Response, timeout: Duration) -> Result<Vec<u8>, PollError> {
    const TOO_LONG: PollError = PollError::Decode("it is longer than 64 KiB");
    if response.content_length().is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(TOO_LONG);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport_error(&error, timeout))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(TOO_LONG);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The HTTP library's errors by what failed. Their own text bears the URL; that of their causes does not.
fn transport_error(error: &reqwest::Error, timeout: Duration) -> PollError {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
        if let Some(tls) = tls_error(cause) {
            return PollError::Tls(tls.to_string());
        }
    }
    if error.is_timeout() { PollError::Timeout(timeout) } else { PollError::Connect(cause.to_string()) }
}

/// The TLS error that `cause` is or, as one I/O error or several, wraps.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = || tls_error(cause.downcast_ref::<std::io::Error>()?.get_ref()?);
    cause.downcast_ref().or_else(wrapped)
}

/// A token that bears a scheme (`AT x`, `Bearer x`, or the vendor's literal `Bearer+x`) goes out unchanged.
fn bearer(prefix: &str, token: &str) -> String {
    if token.contains(' ') || token.starts_with("Bearer+") { token.to_owned() } else { format!("{prefix}{token}") }
}

/// `yyyyMMdd'T'HHmmss'Z'`, in UTC.
fn x_date(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn trace_id() -> String {
    repeat_with(fastrand::alphanumeric).take(TRACE_ID_LENGTH).collect()
}

/// An API that repeats the credential in its error text must not bring it into the logs.
fn without_credential(error: PollError, authorization: &HeaderValue) -> PollError {
    let PollError::Refused { reason, mut refusal } = error else { return error };
    let credential = authorization.to_str().unwrap_or_default();
    let credential = credential.rsplit([' ', '=']).find(|part| !part.is_empty()).unwrap_or(credential);
    let credential = credential.strip_prefix("Bearer+").unwrap_or(credential);
    for text in [&mut refusal.code, &mut refusal.message, &mut refusal.request_id] {
        if text.as_ref().is_some_and(|text| text.contains(credential)) {
            *text = Some("(withheld: it repeats the credential)".to_owned());
        }
    }
    PollError::Refused { reason, refusal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_out_behind_its_prefix_unless_it_bears_a_scheme() {
        assert_eq!(bearer("Bearer ", "abc"), "Bearer abc");
        assert_eq!(bearer("Bearer+", "abc"), "Bearer+abc");
        assert_eq!(bearer("", "abc"), "abc");
        for with_scheme in ["Bearer abc", "AT abc", "Bearer+abc"] {
            assert_eq!(bearer("Bearer ", with_scheme), with_scheme);
        }
    }

    #[test]
    fn x_date_has_the_vendors_form() {
        assert_eq!(x_date("2025-11-03T07:01:40Z".parse().unwrap()), "20251103T070140Z");
    }

    #[test]
    fn a_refusal_that_repeats_the_credential_is_withheld() {
        for authorization in
            ["Bearer hunter2==", "AT hunter2", "Bearer+hunter2", "hunter2", "HMAC-SHA256 AppId=a,Signature=hunter2"]
        {
            let message = Some(format!("bad header {authorization:?}"));
            let refusal = super::super::error::Refusal { message, ..Default::default() };
            let error = PollError::Refused { reason: super::super::Reason::Auth, refusal };
            let shown = without_credential(error, &HeaderValue::from_str(authorization).unwrap()).to_string();
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn trace_ids_are_58_letters_and_digits_and_fresh() {
        let (one, other) = (trace_id(), trace_id());
        assert!(one.len() == 58 && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, other);
    }
}
