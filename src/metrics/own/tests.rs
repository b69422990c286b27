//! What the exporter's own metrics count.

use std::time::{Duration, SystemTime};

use exporter_toolkit::{Coding, Format};
use koodrive::{Exchange, PollError};
use tokio::time::Instant;

use super::*;
use crate::clock::Moment;

fn value(own: &OwnMetrics, series: &str) -> Option<String> {
    let mut writer = Encoder::new(Format::Text0, Coding::Identity);
    own.write(&mut writer);
    let text = String::from_utf8(writer.finish().0.concat()).unwrap();
    let of_series = |line: &str| line.strip_prefix(series)?.strip_prefix(' ').map(ToOwned::to_owned);
    text.lines().find_map(of_series)
}

#[test]
fn reloads_are_counted_by_their_outcome() {
    let own = OwnMetrics::new(0.0).unwrap();
    let successful = || value(&own, "koodrive_exporter_config_last_reload_successful").unwrap();
    own.config_loaded(12.5);
    assert_eq!(successful(), "1");
    own.config_failed();
    assert_eq!(successful(), "0");
    let loaded = value(&own, "koodrive_exporter_config_last_reload_success_timestamp_seconds");
    assert_eq!(loaded.as_deref(), Some("12.5"));
}

#[test]
fn single_requests_are_counted_by_the_class_of_their_status() {
    let own = OwnMetrics::new(0.0).unwrap();
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
    own.logged(Level::WARN);
    assert_eq!(value(&own, "koodrive_exporter_log_messages_total{level=\"warn\"}").as_deref(), Some("1"));
}
