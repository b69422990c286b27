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
        "Whether the latest finished poll of a collector beside the overview succeeded (1) or not (0). Absent before the first.",
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
        "When the collector's latest poll ended whose whole answer was good, in Unix time; 0 is never.",
        |view, samples| samples.labelled([view.collector()], view.last_success()),
    ),
    family(
        "koodrive_collector_last_duration_seconds",
        Kind::Gauge,
        COLLECTOR,
        "How long the collector's latest finished poll took, retries included. Absent before the first.",
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
        "How often the collector polls, as configured.",
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
        "Why the collector's latest finished poll failed; always 1, and absent where it succeeded.",
        |view, samples| {
            if let Some(failure) = view.state.failure() {
                samples.labelled([view.collector(), failure.reason().as_str()], 1.0);
            }
        },
    ),
];
