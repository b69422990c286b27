//! The polls of an account's overview, which say whether the account is up.

use exporter_toolkit::{Kind, float};

use super::{Family, family};

/// Of what is read at once, and not of a file that is read later.
pub(super) const AGE: &str = "koodrive_poll_last_success_age_seconds";

pub(super) static FAMILIES: [Family; 14] = [
    family(
        "koodrive_up",
        Kind::Gauge,
        &[],
        "Result of the latest finished poll of the account: 1 for success, 0 for failure; absent before the first.",
        |view, samples| samples.maybe(view.state.latest.is_some().then(|| f64::from(u8::from(view.state.up())))),
    ),
    family(
        "koodrive_poll_last_success_timestamp_seconds",
        Kind::Gauge,
        &[],
        "Unix time at the end of the last successful poll; 0 if it never happened.",
        |view, samples| samples.one(view.last_success()),
    ),
    family(
        AGE,
        Kind::Gauge,
        &[],
        "Time since the end of the last successful poll, in seconds, unaffected by changes of the host's clock; absent before the first.",
        |view, samples| {
            let ended = view.state.last_success.map(|success| success.monotonic);
            samples.maybe(ended.map(|ended| view.now.monotonic.saturating_duration_since(ended).as_secs_f64()));
        },
    ),
    family(
        "koodrive_poll_last_attempt_timestamp_seconds",
        Kind::Gauge,
        &[],
        "Unix time at the start of the latest finished poll; 0 if it never happened.",
        |view, samples| {
            samples.one(view.state.latest.as_ref().map_or(0.0, |latest| latest.began.unix_seconds(view.now)));
        },
    ),
    family(
        "koodrive_poll_last_duration_seconds",
        Kind::Gauge,
        &[],
        "Duration of the latest finished poll, in seconds, retries included; absent before the first.",
        |view, samples| samples.maybe(view.state.latest.as_ref().map(|latest| latest.duration.as_secs_f64())),
    ),
    family(
        "koodrive_poll_next_timestamp_seconds",
        Kind::Gauge,
        &[],
        "Unix time of the next poll, back-off and Retry-After included; absent if none is planned.",
        |view, samples| samples.maybe(view.due),
    ),
    family(
        "koodrive_poll_interval_seconds",
        Kind::Gauge,
        &[],
        "Configured interval between polls of the account, in seconds.",
        |view, samples| {
            samples.one(view.account.poll.interval.as_secs_f64());
        },
    ),
    family(
        "koodrive_polls_total",
        Kind::Counter,
        &[],
        "Finished polls of the account, failed ones included.",
        |view, samples| {
            samples.one(float(view.state.polls));
        },
    ),
    family(
        "koodrive_poll_failures_total",
        Kind::Counter,
        &["reason"],
        "Failed polls of the account by reason.",
        |view, samples| {
            for (reason, count) in view.state.failures() {
                samples.labelled([reason.as_str()], float(count));
            }
        },
    ),
    family(
        "koodrive_poll_failure_info",
        Kind::Gauge,
        &["reason"],
        "Reason why the latest finished poll of the account failed; always 1, and absent if it succeeded.",
        |view, samples| {
            if let Some(failure) = view.state.failure() {
                samples.labelled([failure.reason().as_str()], 1.0);
            }
        },
    ),
    family(
        "koodrive_api_clock_skew_seconds",
        Kind::Gauge,
        &[],
        "Local clock minus the Date header of the API's latest answer, in seconds: positive if this host is ahead; absent before the first answer.",
        |view, samples| samples.maybe(view.state.clock_skew),
    ),
    family(
        "koodrive_credential_rotations_total",
        Kind::Counter,
        &[],
        "Changes of the secret in the account's secret file, as far as polls found them.",
        |view, samples| samples.one(float(view.state.credential_rotations)),
    ),
    family(
        "koodrive_credential_read_failures_total",
        Kind::Counter,
        &[],
        "Attempts to read the account's secret file that failed or found no secret.",
        |view, samples| samples.one(float(view.state.credential_read_failures)),
    ),
    family(
        "koodrive_account_info",
        Kind::Gauge,
        &["endpoint", "auth_type"],
        "Endpoint (host only) and kind of credential of the account; always 1.",
        |view, samples| {
            samples.labelled([view.account.api.endpoint.host(), view.account.api.credential.kind()], 1.0);
        },
    ),
];
