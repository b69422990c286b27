//! The polls of an account's further collectors. They have families of their own, so that what asks for `koodrive_up`
//! and `koodrive_poll_*` sees the overview alone.

use exporter_toolkit::{Kind, float};

use super::{Family, family};

const COLLECTOR: &[&str] = &["collector"];
const REASON: &[&str] = &["collector", "reason"];

pub(super) static FAMILIES: [Family; 7] = [
    family(
        "koodrive_collector_up",
        Kind::Gauge,
        COLLECTOR,
        "Result of the latest finished poll of a collector other than the overview: 1 for success, 0 for failure; absent before the first.",
        |view, samples| {
            if view.state.latest.is_some() {
                samples.labelled([view.collector()], f64::from(u8::from(view.state.up())));
            }
        },
    ),
    family(
        "koodrive_collector_last_success_timestamp_seconds",
        Kind::Gauge,
        COLLECTOR,
        "Unix time at the end of the collector's last successful poll; 0 if it never happened.",
        |view, samples| samples.labelled([view.collector()], view.last_success()),
    ),
    family(
        "koodrive_collector_last_duration_seconds",
        Kind::Gauge,
        COLLECTOR,
        "Duration of the collector's latest finished poll, in seconds, retries included; absent before the first.",
        |view, samples| {
            if let Some(latest) = &view.state.latest {
                samples.labelled([view.collector()], latest.duration.as_secs_f64());
            }
        },
    ),
    family(
        "koodrive_collector_interval_seconds",
        Kind::Gauge,
        COLLECTOR,
        "Configured interval between polls of the collector, in seconds.",
        |view, samples| samples.labelled([view.collector()], view.account.poll.interval.as_secs_f64()),
    ),
    family(
        "koodrive_collector_polls_total",
        Kind::Counter,
        COLLECTOR,
        "Finished polls of the collector, failed ones included.",
        |view, samples| samples.labelled([view.collector()], float(view.state.polls)),
    ),
    family(
        "koodrive_collector_failures_total",
        Kind::Counter,
        REASON,
        "Failed polls of the collector by reason.",
        |view, samples| {
            for (reason, count) in view.state.failures() {
                samples.labelled([view.collector(), reason.as_str()], float(count));
            }
        },
    ),
    family(
        "koodrive_collector_failure_info",
        Kind::Gauge,
        REASON,
        "Reason why the collector's latest finished poll failed; always 1, and absent if it succeeded.",
        |view, samples| {
            if let Some(failure) = view.state.failure() {
                samples.labelled([view.collector(), failure.reason().as_str()], 1.0);
            }
        },
    ),
];
