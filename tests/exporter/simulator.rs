//! The simulator's side of the API's rules, by requests that break one each.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use koodrive::signature::Signed;
use koodrive_simulator::Fault;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use crate::support::{Page, Upstream, client};

const PATH: &str = "/koodrive/ose/v1/space/usage/overview";

fn x_date(ago: i64) -> String {
    let now = Timestamp::try_from(SystemTime::now()).unwrap().as_second();
    Timestamp::from_second(now - ago).unwrap().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The headers of a right request for the token account, with one changed or, by an empty value, left out.
fn token_headers(upstream: &Upstream, changed: (&'static str, &str)) -> HeaderMap {
    let user_id = upstream.user_id(1);
    let right =
        [("x-user-id", user_id.as_str()), ("x-date", &x_date(5)), ("authorization", "Bearer simulated-token-00001")];
    let parts = right.into_iter().filter(|(name, _)| *name != changed.0).chain([changed]);
    parts
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

async fn ask(upstream: &Upstream, headers: HeaderMap) -> (u16, serde_json::Value) {
    let url = format!("{}{PATH}", upstream.url);
    let page = Page::of(client().get(url).headers(headers).send().await.unwrap()).await;
    (page.status, serde_json::from_str(&page.body).unwrap())
}

#[tokio::test]
async fn a_right_request_is_answered_with_numbers() {
    let upstream = Upstream::start(3).await;
    for right in [("language", "en_us"), ("authorization", "AT simulated-token-00001"), ("x-traceid", &"a".repeat(58))]
    {
        let (status, body) = ask(&upstream, token_headers(&upstream, right)).await;
        assert_eq!((status, &body["code"]), (200, &json!(0)), "{right:?} {body}");
        assert!(body["data"]["totalUsed"].is_u64());
    }
}

#[tokio::test]
async fn each_wrong_header_is_refused_with_the_vendors_envelope() {
    let upstream = Upstream::start(3).await;
    let (future, old) = (x_date(-60), x_date(16 * 60));
    for (changed, expected) in [
        (("x-user-id", ""), 400),
        (("x-user-id", "12x"), 400),
        (("x-user-id", "1"), 400),
        (("x-date", ""), 400),
        (("x-date", "2026-11-03T07:01:40Z"), 400),
        (("x-date", &future), 400),
        (("x-date", &old), 400),
        (("x-traceid", "short"), 400),
        (("language", "en US"), 400),
        (("authorization", ""), 401),
        (("authorization", "simulated-token-00001"), 401),
        (("authorization", "Bearer+simulated-token-00001"), 401),
        (("authorization", "Bearer other"), 401),
    ] {
        let (status, body) = ask(&upstream, token_headers(&upstream, changed)).await;
        assert_eq!(status, expected, "{changed:?} {body}");
        assert!(body["code"].as_i64().unwrap() != 0 && body["msg"].is_string() && body.get("data").is_none());
    }
}

#[tokio::test]
async fn a_signature_over_anything_else_is_refused() {
    let upstream = Upstream::start(3).await;
    let (host, user_id, date) = (upstream.url.strip_prefix("http://").unwrap(), upstream.user_id(0), x_date(5));
    let right = Signed { host, path: PATH, x_date: &date, user_id: &user_id };
    let (app, secret) = ("simulated-app-00000", "simulated-secret-00000");
    for (authorization, expected) in [
        (right.authorization(app, secret), 200),
        (right.authorization("other", secret), 401),
        (right.authorization(app, "other"), 401),
        (Signed { host: "other", ..right }.authorization(app, secret), 401),
        (Signed { path: "/other", ..right }.authorization(app, secret), 401),
        (Signed { x_date: &x_date(6), ..right }.authorization(app, secret), 401),
        (Signed { user_id: "1", ..right }.authorization(app, secret), 401),
        (right.authorization(app, secret).replace("HMAC-SHA256", "SDK-HMAC-SHA256"), 401),
        (right.authorization(app, secret).replace("host;x-date;x-user-id", "host"), 401),
        (right.authorization(app, secret).to_uppercase(), 401),
    ] {
        let headers = [("x-user-id", user_id.as_str()), ("x-date", &date), ("authorization", &authorization)];
        let headers =
            headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        let (status, body) = ask(&upstream, headers.into_iter().collect()).await;
        assert_eq!(status, expected, "{authorization} {body}");
    }
}

#[tokio::test]
async fn a_token_that_was_not_used_for_20_minutes_is_dead() {
    let offset = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let read = std::sync::Arc::clone(&offset);
    let clock = koodrive_exporter::clock::WallClock(std::sync::Arc::new(move || {
        SystemTime::now() + Duration::from_secs(read.load(std::sync::atomic::Ordering::SeqCst))
    }));
    let upstream = Upstream::with_clock(3, clock).await;
    let ask_after = async |seconds: u64, x_date_ago: i64| {
        offset.store(seconds, std::sync::atomic::Ordering::SeqCst);
        ask(&upstream, token_headers(&upstream, ("x-date", &x_date(x_date_ago)))).await.0
    };
    assert_eq!(ask_after(0, 5).await, 200);
    assert_eq!(ask_after(1190, -1100).await, 200);
    assert_eq!(ask_after(2380, -2300).await, 200, "each call renews it");
    assert_eq!(ask_after(3590, -3500).await, 401);
}

#[tokio::test]
async fn an_account_can_be_state_to_fail_and_to_answer_given_numbers() {
    let upstream = Upstream::start(3).await;
    let client = client();
    let order = async |body: serde_json::Value| {
        let url = format!("{}/simulator/accounts/{}", upstream.url, upstream.user_id(1));
        client.put(url).body(body.to_string()).send().await.unwrap().status().as_u16()
    };
    let right = || token_headers(&upstream, ("language", "en-US"));
    assert_eq!(order(json!({"fault": {"kind": "rate_limited", "retry_after": 7}})).await, 200);
    let limited = client.get(format!("{}{PATH}", upstream.url)).headers(right()).send().await.unwrap();
    assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &HeaderValue::from(7)));
    assert_eq!(order(json!({"fault": {"kind": "code", "code": 13_000_412}})).await, 200);
    assert_eq!(ask(&upstream, right()).await.1["code"], 13_000_412);
    for (fault, message) in [(Fault::Truncated, "half an answer"), (Fault::Dropped, "no answer")] {
        upstream.simulator.set_fault(&upstream.user_id(1), Some(&fault));
        let whole = async { client.get(format!("{}{PATH}", upstream.url)).headers(right()).send().await?.text().await };
        assert!(whole.await.is_err(), "{message}");
    }
    assert_eq!(order(json!({"numbers": {"totalUsed": 7}})).await, 200);
    assert_eq!(ask(&upstream, right()).await.1["data"], json!({"totalUsed": 7}));
    assert_eq!(order(json!({"falt": 1})).await, 400);
    let state = client.get(format!("{}/simulator", upstream.url)).send().await.unwrap().text().await.unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["accounts"][upstream.user_id(1)]["record"]["requests"], 5);
}
