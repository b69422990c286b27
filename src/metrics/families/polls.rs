//! The polls: those of an account's overview, which say whether the account is up, and those of its further collectors,
//! with families of their own, so that what asks for `koodrive_up` and `koodrive_poll_*` sees the overview alone.

use exporter_toolkit::{Kind, float};

use super::{Family, Reader, Samples, View, counter, gauge};

/// Of what is read at once, and not of a file that is read later.
pub(super) const AGE: &str = "koodrive_poll_last_success_age_seconds";

pub(super) static FAMILIES: [Family; 14] = [
    gauge(
        "koodrive_up",
        "Result of the latest finished poll of the account: 1 for success, 0 for failure; absent before the first.",
        up,
    ),
    gauge(
        "koodrive_poll_last_success_timestamp_seconds",
        "Unix time at the end of the last successful poll; 0 if it never happened.",
        |view| Some(last_success(view)),
    ),
    gauge(
        AGE,
        "Time since the end of the last successful poll, in seconds, unaffected by changes of the host's clock; absent before the first.",
        |view| Some(view.now.monotonic.saturating_duration_since(view.state.last_success?.monotonic).as_secs_f64()),
    ),
    gauge(
        "koodrive_poll_last_attempt_timestamp_seconds",
        "Unix time at the start of the latest finished poll; 0 if it never happened.",
        |view| Some(view.state.latest.as_ref().map_or(0.0, |latest| latest.began.unix_seconds(view.now))),
    ),
    gauge(
        "koodrive_poll_last_duration_seconds",
        "Duration of the latest finished poll, in seconds, retries included; absent before the first.",
        last_duration,
    ),
    gauge(
        "koodrive_poll_next_timestamp_seconds",
        "Unix time of the next poll, back-off and Retry-After included; absent if none is planned.",
        |view| view.due,
    ),
    gauge("koodrive_poll_interval_seconds", "Configured interval between polls of the account, in seconds.", |view| {
        Some(view.account.poll.interval.as_secs_f64())
    }),
    counter("koodrive_polls_total", "Finished polls of the account, failed ones included.", |view| view.state.polls),
    failures("koodrive_poll_failures_total", "Failed polls of the account by reason."),
    failure_info(
        "koodrive_poll_failure_info",
        "Reason why the latest finished poll of the account failed; always 1, and absent if it succeeded.",
    ),
    gauge(
        "koodrive_api_clock_skew_seconds",
        "Local clock minus the Date header of the API's latest answer, in seconds: positive if this host is ahead; absent before the first answer.",
        |view| view.state.clock_skew,
    ),
    counter(
        "koodrive_credential_rotations_total",
        "Changes of the secret in the account's secret file, as far as polls found them.",
        |view| view.state.credential_rotations,
    ),
    counter(
        "koodrive_credential_read_failures_total",
        "Attempts to read the account's secret file that failed or found no secret.",
        |view| view.state.credential_read_failures,
    ),
    Family {
        name: "koodrive_account_info",
        kind: Kind::Gauge,
        labels: &["endpoint", "auth_type"],
        help: "Endpoint (host only) and kind of credential of the account; always 1.",
        reader: Reader::Samples(|view, samples| {
            samples.labelled([view.account.api.endpoint.host(), view.account.api.credential.kind()], 1.0);
        }),
    },
];

pub(super) static FAMILIES_OF_COLLECTORS: [Family; 7] = [
    gauge(
        "koodrive_collector_up",
        "Result of the latest finished poll of a collector other than the overview: 1 for success, 0 for failure; absent before the first.",
        up,
    ),
    gauge(
        "koodrive_collector_last_success_timestamp_seconds",
        "Unix time at the end of the collector's last successful poll; 0 if it never happened.",
        |view| Some(last_success(view)),
    ),
    gauge(
        "koodrive_collector_last_duration_seconds",
        "Duration of the collector's latest finished poll, in seconds, retries included; absent before the first.",
        last_duration,
    ),
    gauge(
        "koodrive_collector_interval_seconds",
        "Configured interval between polls of the collector, in seconds.",
        |view| Some(view.account.poll.interval.as_secs_f64()),
    ),
    counter("koodrive_collector_polls_total", "Finished polls of the collector, failed ones included.", |view| {
        view.state.polls
    }),
    failures("koodrive_collector_failures_total", "Failed polls of the collector by reason."),
    failure_info(
        "koodrive_collector_failure_info",
        "Reason why the collector's latest finished poll failed; always 1, and absent if it succeeded.",
    ),
];

fn up(view: &View) -> Option<f64> {
    view.state.latest.as_ref().map(|_| f64::from(u8::from(view.state.up())))
}

fn last_success(view: &View) -> f64 {
    view.state.last_success.map_or(0.0, |success| success.unix_seconds(view.now))
}

fn last_duration(view: &View) -> Option<f64> {
    Some(view.state.latest.as_ref()?.duration.as_secs_f64())
}

const fn failures(name: &'static str, help: &'static str) -> Family {
    let of_reasons = |view: &View, samples: &mut Samples<'_, '_>| {
        for (reason, count) in view.state.failures() {
            samples.labelled([reason], float(count));
        }
    };
    Family { name, kind: Kind::Counter, labels: &["reason"], help, reader: Reader::Samples(of_reasons) }
}

const fn failure_info(name: &'static str, help: &'static str) -> Family {
    let of_reason = |view: &View, samples: &mut Samples<'_, '_>| {
        if let Some(failure) = view.state.failure() {
            samples.labelled([failure.reason().as_str()], 1.0);
        }
    };
    Family { name, kind: Kind::Gauge, labels: &["reason"], help, reader: Reader::Samples(of_reason) }
}
