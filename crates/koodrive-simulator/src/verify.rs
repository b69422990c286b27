//! The API's side of each rule: what a request must show.
//!
//! Sources: the vendor's page on the space usage overview and those on token and app authentication.
//! The codes for bad credentials are not documented; here they repeat the HTTP status.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use hyper::{Method, Request, StatusCode, header::AUTHORIZATION, header::HOST};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use sha2::{Digest, Sha256};

use super::{
    TOKEN_LIFETIME,
    roster::{Credential, SimulatedAccount},
};

/// The vendor's code for a bad parameter.
const BAD_PARAMETER: i64 = 13_000_102;

/// How old `X-Date` may be.
const MAX_DATE_AGE: Duration = Duration::from_mins(15);

/// The SHA-256 of an empty body.
const EMPTY_BODY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: i64,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn bad_parameter(message: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: BAD_PARAMETER, message: message.to_owned() }
    }

    fn bad_date(message: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: 400, message: format!("authentication failed: {message}") }
    }

    fn unauthorized(message: &str) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, code: 401, message: message.to_owned() }
    }
}

/// The header's one value.
fn header<'r, B>(request: &'r Request<B>, name: &str) -> Result<Option<&'r str>, Refusal> {
    let mut values = request.headers().get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| Refusal::bad_parameter(&format!("{name} is not ASCII")))
        }
        _ => Err(Refusal::bad_parameter(&format!("{name} comes twice"))),
    }
}

fn required<'r, B>(request: &'r Request<B>, name: &str) -> Result<&'r str, Refusal> {
    header(request, name)?.ok_or_else(|| Refusal::bad_parameter(&format!("{name} is missing")))
}

/// The `X-User-Id`: a string of digits.
pub(super) fn user_id<B>(request: &Request<B>) -> Result<&str, Refusal> {
    let user_id = required(request, "x-user-id")?;
    if user_id.is_empty() || user_id.contains(|char: char| !char.is_ascii_digit()) {
        return Err(Refusal::bad_parameter("X-User-Id is not a string of digits"));
    }
    Ok(user_id)
}

/// Checks everything else. `idle` is how long the account's token has not been used.
pub(super) fn request<B>(
    request: &Request<B>,
    account: &SimulatedAccount,
    now: SystemTime,
    idle: Duration,
) -> Result<(), Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal::bad_parameter("the method is not GET"));
    }
    if request.uri().query().is_some() {
        return Err(Refusal::bad_parameter("there is a query"));
    }
    if let Some(trace_id) = header(request, "x-traceid")?
        && (trace_id.len() != 58 || trace_id.contains(|char: char| !char.is_ascii_alphanumeric()))
    {
        return Err(Refusal::bad_parameter("X-Traceid is not 58 letters and digits"));
    }
    if let Some(language) = header(request, "language")?
        && language
            .split(['-', '_'])
            .any(|part| part.is_empty() || part.contains(|char: char| !char.is_ascii_alphanumeric()))
    {
        return Err(Refusal::bad_parameter("language is not a language tag"));
    }
    date(required(request, "x-date")?, now)?;
    let authorization =
        header(request, AUTHORIZATION.as_str())?.ok_or_else(|| Refusal::unauthorized("Authorization is missing"))?;
    match &account.credential {
        Credential::Token(token) => bearer(authorization, token, idle),
        Credential::App { id, secret } => signature(request, authorization, id, secret),
    }
}

/// `X-Date` is `yyyyMMdd'T'HHmmss'Z'`, at most 15 minutes old, and not later than now.
fn date(text: &str, now: SystemTime) -> Result<(), Refusal> {
    let shape = || Refusal::bad_date("X-Date is not of the form yyyyMMdd'T'HHmmss'Z'");
    if text.len() != 16 {
        return Err(shape());
    }
    let civil = DateTime::strptime("%Y%m%dT%H%M%SZ", text).map_err(|_| shape())?;
    let date = TimeZone::UTC.to_timestamp(civil).map_err(|_| shape())?;
    let now = Timestamp::try_from(now).map_err(|_| shape())?;
    let age = now.duration_since(date);
    if age.is_negative() {
        Err(Refusal::bad_date("X-Date is later than the server's time"))
    } else if age.unsigned_abs() > MAX_DATE_AGE {
        Err(Refusal::bad_date("X-Date is more than 15 minutes old"))
    } else {
        Ok(())
    }
}

fn bearer(authorization: &str, token: &str, idle: Duration) -> Result<(), Refusal> {
    let shown = authorization.strip_prefix("Bearer ").or_else(|| authorization.strip_prefix("AT "));
    if shown != Some(token) {
        return Err(Refusal::unauthorized("the token is unknown"));
    }
    if idle >= TOKEN_LIFETIME {
        return Err(Refusal::unauthorized("the token has expired: it was not used for 20 minutes"));
    }
    Ok(())
}

/// `HMAC-SHA256 AppId=<id>,SignedHeaders=<names>,Signature=<hex>`, with the canonical request built from
/// what came: the path ends in a slash, the headers are those that are named.
fn signature<B>(request: &Request<B>, authorization: &str, id: &str, secret: &str) -> Result<(), Refusal> {
    let parts = authorization.strip_prefix("HMAC-SHA256 ").and_then(|rest| {
        let (app_id, rest) = rest.strip_prefix("AppId=")?.split_once(",SignedHeaders=")?;
        let (names, signature) = rest.split_once(",Signature=")?;
        Some((app_id, names, signature))
    });
    let Some((app_id, names, signature)) = parts else {
        return Err(Refusal::unauthorized("Authorization is not of the app scheme's form"));
    };
    if app_id != id {
        return Err(Refusal::unauthorized("the AppId is unknown"));
    }
    let list: Vec<&str> = names.split(';').collect();
    if !list.is_sorted() || !["x-date", "x-user-id"].iter().all(|name| list.contains(name)) {
        return Err(Refusal::unauthorized("SignedHeaders must be sorted and name x-date and x-user-id"));
    }
    let mut canonical = String::from("GET\n");
    canonical.push_str(request.uri().path());
    if !canonical.ends_with('/') {
        canonical.push('/');
    }
    canonical.push_str("\n\n");
    for name in list {
        let value = match (header(request, name)?, request.uri().authority()) {
            (Some(value), _) => value,
            (None, Some(authority)) if name == HOST.as_str() => authority.as_str(),
            _ => return Err(Refusal::unauthorized("a signed header is missing")),
        };
        canonical.extend([name, ":", value.trim(), "\n"]);
    }
    canonical.extend(["\n", names, "\n", EMPTY_BODY_SHA256]);
    let hash = format!("{:x}", Bytes::from_iter(Sha256::digest(canonical)));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
    let mac = mac.map_err(|_| Refusal::unauthorized("the secret makes no key"))?;
    let code = mac.chain_update("HMAC-SHA256\n").chain_update(hash).finalize().into_bytes();
    let is_right = signature == format!("{:x}", Bytes::from_iter(code));
    if is_right { Ok(()) } else { Err(Refusal::unauthorized("the signature is wrong")) }
}
