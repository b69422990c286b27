//! What the exporter's own metrics count.

use std::time::{Duration, SystemTime};

use koodrive::{Exchange, PollError};
use tokio::time::Instant;

use super::*;
use crate::{
    clock::Moment,
    metrics::{Coding, Format},
};

fn value(own: &OwnMetrics, series: &str) -> Option<String> {
    let mut writer = Writer::new(Format::Text0, Coding::Identity);
    own.write(&mut writer);
    let text = String::from_utf8(writer.finish().concat()).unwrap();
    let of_series = |line: &str| line.strip_prefix(series)?.strip_prefix(' ').map(ToOwned::to_owned);
    text.lines().find_map(of_series)
}

#[test]
fn requests_are_counted_by_page_and_status() {
    let own = OwnMetrics::new().unwrap();
    for (handler, status) in
        [(Handler::Metrics, 200), (Handler::Metrics, 200), (Handler::Metrics, 503), (Handler::Other, 404)]
    {
        own.served(handler, status);
    }
    let served = |handler: &str, code: u16| {
        value(&own, &format!("koodrive_exporter_http_requests_total{{code=\"{code}\",handler=\"{handler}\"}}"))
    };
    assert_eq!(
        [served("metrics", 200), served("metrics", 503), served("other", 404)],
        ["2", "1", "1"].map(|count| Some(count.to_owned()))
    );
    assert_eq!((served("status", 200).as_deref(), served("status", 404)), (Some("0"), None));
}

#[test]
fn a_connection_is_open_until_it_ends() {
    let own = OwnMetrics::new().unwrap();
    let open = || value(&own, "koodrive_exporter_http_connections").unwrap();
    let (one, other) = (own.connection_open(), own.connection_open());
    assert_eq!(open(), "2");
    drop(one);
    assert_eq!(open(), "1");
    drop(other);
    own.connection_over_bound();
    assert_eq!(
        (open().as_str(), value(&own, "koodrive_exporter_http_connections_over_bound_total").as_deref()),
        ("0", Some("1"))
    );
}

#[test]
fn reloads_are_told_by_their_outcome() {
    let own = OwnMetrics::new().unwrap();
    let successful = || value(&own, "koodrive_exporter_config_last_reload_successful").unwrap();
    own.config_loaded(12.5);
    assert_eq!(successful(), "1");
    own.config_failed();
    assert_eq!(successful(), "0");
    let loaded = value(&own, "koodrive_exporter_config_last_reload_success_timestamp_seconds");
    assert_eq!(loaded.as_deref(), Some("12.5"));
    let of_web = || {
        [
            "web_config_last_reload_successful",
            "web_config_reload_failures_total",
            "tls_certificate_expiry_timestamp_seconds",
        ]
        .map(|name| value(&own, &format!("koodrive_exporter_{name}")).unwrap_or_else(|| "absent".to_owned()))
    };
    assert_eq!(of_web(), ["absent", "absent", "absent"]);
    own.web_config(true, Some(7));
    assert_eq!(of_web(), ["1", "0", "7"]);
    own.web_config(false, None);
    assert_eq!((of_web(), own.web_config_failures()), (["0", "1", "absent"].map(ToOwned::to_owned), 1));
    own.web_config(false, Some(8));
    assert_eq!((of_web(), own.web_config_failures()), (["0", "2", "8"].map(ToOwned::to_owned), 2));
}

#[test]
fn single_requests_are_counted_by_the_class_of_their_status() {
    let own = OwnMetrics::new().unwrap();
    let answered = |status| Stage::Answered(Head { status, clock_skew: None, retry_after: None });
    let statuses = [100, 199, 200, 299, 300, 399, 400, 499, 500, 599].map(answered);
    let exchange = |stage| Exchange { stage, ..Exchange::unfinished(PollError::Panic) };
    let earlier = statuses.into_iter().chain([Stage::Sent]).map(exchange).collect();
    let began = Moment { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    own.polled(&Finished { began, duration: Duration::from_secs(2), earlier, exchange: exchange(Stage::Unsent) });
    for (code, count) in [("1xx", "2"), ("2xx", "2"), ("3xx", "2"), ("4xx", "2"), ("5xx", "2"), ("none", "1")] {
        let counted = value(&own, &format!("koodrive_exporter_api_requests_total{{code=\"{code}\"}}"));
        assert_eq!(counted.as_deref(), Some(count), "{code}");
    }
    assert_eq!(value(&own, "koodrive_exporter_poll_duration_seconds_sum").as_deref(), Some("2"));
    own.log_messages(Level::WARN).inc();
    assert_eq!(value(&own, "koodrive_exporter_log_messages_total{level=\"warn\"}").as_deref(), Some("1"));
}
