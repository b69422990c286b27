//! The `koodrive_*` families, in one table: name, kind, help, and how to read each from an account.

use std::sync::Arc;

use tokio::time::Instant;

use super::exposition::{FamilyWriter, Kind, Writer, float, rendered};
use crate::{
    account::{Account, Unit},
    koodrive::{Field, Overview},
    poll::{AccountState, Board, Now, Slot},
};

/// One family: `samples` writes those of one account.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: fn(&View, &mut Samples<'_, '_>),
}

/// One account at one moment.
struct View {
    account: Arc<Account>,
    /// The account's label, escaped once for all of its samples.
    label: String,
    state: Arc<AccountState>,
    due: Option<Now>,
    now: Now,
}

/// Writes samples that bear the account's label.
struct Samples<'a, 'b> {
    family: &'a mut FamilyWriter<'b>,
    label: &'a str,
}

/// Writes all families of all accounts, and tells when the first of the shown values will be stale.
///
/// Each account's state is read once, so that its series agree.
pub(super) fn write(board: &Board, now: Now, writer: &mut Writer) -> Option<Instant> {
    let view = |slot: &Arc<Slot>| {
        let (account, state) = (Arc::clone(slot.account()), slot.state());
        View { label: rendered("account", &account.alias), account, state, due: slot.due(), now }
    };
    let views: Vec<View> = board.slots().iter().map(view).collect();
    for family in &FAMILIES {
        let mut family_writer = writer.family(family.name, family.kind, family.help);
        for view in &views {
            (family.samples)(view, &mut Samples { family: &mut family_writer, label: &view.label });
        }
    }
    let max_age = |view: &View| view.account.poll.max_age;
    views.iter().filter_map(|view| view.state.fresh_space(max_age(view), now)?.stale_from(max_age(view))).min()
}

impl View {
    /// The numbers, while they are fresh.
    fn overview(&self) -> Option<&Overview> {
        let space = self.state.fresh_space(self.account.poll.max_age, self.now)?;
        Some(&space.overview)
    }

    fn value(&self, field: fn(&Overview) -> &Field) -> Option<f64> {
        Some(field(self.overview()?).as_ref().ok()?.value)
    }

    fn counts_allocations(&self) -> bool {
        self.account.units.total_allocation == Unit::Count
    }
}

impl Samples<'_, '_> {
    fn one(&mut self, value: f64) {
        self.family.sample("", self.label, [], value);
    }

    fn maybe(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.one(value);
        }
    }

    fn labelled<const N: usize>(&mut self, labels: [(&str, &str); N], value: f64) {
        self.family.sample("", self.label, labels, value);
    }
}

const fn gauge(name: &'static str, help: &'static str, samples: fn(&View, &mut Samples<'_, '_>)) -> Family {
    Family { name, kind: Kind::Gauge, help, samples }
}

const fn counter(name: &'static str, help: &'static str, samples: fn(&View, &mut Samples<'_, '_>)) -> Family {
    Family { name, kind: Kind::Counter, help, samples }
}

static FAMILIES: [Family; 19] = [
    gauge(
        "koodrive_space_capacity_bytes",
        "Space the account may use: totalCapacity of KooDrive's space usage overview, in bytes. Absent when older than max_age.",
        |view, samples| samples.maybe(view.value(|overview| &overview.total_capacity)),
    ),
    gauge(
        "koodrive_space_used_bytes",
        "Space in use: totalUsed of the overview, in bytes. It may exceed the capacity. Absent when older than max_age.",
        |view, samples| samples.maybe(view.value(|overview| &overview.total_used)),
    ),
    gauge(
        "koodrive_space_allocated_bytes",
        "Space allocated to users and departments: totalAllocation of the overview, in bytes. Absent when older than max_age, or where its unit is count.",
        |view, samples| {
            if !view.counts_allocations() {
                samples.maybe(view.value(|overview| &overview.total_allocation));
            }
        },
    ),
    gauge(
        "koodrive_space_allocations",
        "Number of allocations: totalAllocation of the overview where its unit is configured as count. Absent when older than max_age.",
        |view, samples| {
            if view.counts_allocations() {
                samples.maybe(view.value(|overview| &overview.total_allocation));
            }
        },
    ),
    gauge(
        "koodrive_space_quota_bytes",
        "Quota of the account, in bytes, where the overview has it. Absent when older than max_age.",
        |view, samples| samples.maybe(view.overview().and_then(|overview| overview.quota?.ok())),
    ),
    gauge(
        "koodrive_space_reported",
        "The API's own number, as it gave it, to check the configured units against. Absent when older than max_age.",
        |view, samples| {
            let Some(overview) = view.overview() else { return };
            for (name, field) in [
                ("totalCapacity", overview.total_capacity),
                ("totalUsed", overview.total_used),
                ("totalAllocation", overview.total_allocation),
            ] {
                if let Ok(measure) = field {
                    samples.labelled([("field", name)], float(measure.reported));
                }
            }
        },
    ),
    gauge(
        "koodrive_up",
        "Whether the latest finished poll of the account succeeded (1) or not (0); 0 before the first.",
        |view, samples| samples.one(f64::from(u8::from(view.state.up()))),
    ),
    gauge(
        "koodrive_poll_last_success_timestamp_seconds",
        "When the latest poll ended whose whole answer was good, in Unix time; 0 is never.",
        |view, samples| samples.one(view.state.last_success.map_or(0.0, |success| success.unix_seconds(view.now))),
    ),
    gauge(
        "koodrive_poll_last_attempt_timestamp_seconds",
        "When the latest finished poll began, in Unix time; 0 is never.",
        |view, samples| {
            samples.one(view.state.latest.as_ref().map_or(0.0, |latest| latest.began.unix_seconds(view.now)));
        },
    ),
    gauge(
        "koodrive_poll_last_duration_seconds",
        "How long the latest finished poll took, retries included. Absent before the first.",
        |view, samples| samples.maybe(view.state.latest.as_ref().map(|latest| latest.duration.as_secs_f64())),
    ),
    gauge(
        "koodrive_poll_next_timestamp_seconds",
        "When the next poll is due, in Unix time, as back-off and Retry-After have it. Absent where none is planned.",
        |view, samples| samples.maybe(view.due.map(|due| due.unix_seconds(view.now))),
    ),
    gauge("koodrive_poll_interval_seconds", "How often the account is polled, as configured.", |view, samples| {
        samples.one(view.account.poll.interval.as_secs_f64());
    }),
    counter("koodrive_polls_total", "Finished polls of the account, failed ones included.", |view, samples| {
        samples.one(float(view.state.polls));
    }),
    counter("koodrive_poll_failures_total", "Failed polls of the account by reason.", |view, samples| {
        for (reason, count) in view.state.failures() {
            samples.labelled([("reason", reason.as_str())], float(count));
        }
    }),
    gauge(
        "koodrive_poll_failure_info",
        "Why the latest finished poll of the account failed; always 1, and absent where it succeeded.",
        |view, samples| {
            let failure = view.state.latest.as_ref().and_then(|latest| latest.failure.as_ref());
            if let Some((reason, _)) = failure {
                samples.labelled([("reason", reason.as_str())], 1.0);
            }
        },
    ),
    gauge(
        "koodrive_api_clock_skew_seconds",
        "The local clock minus the Date header of the API's latest answer: positive when this host is ahead. Absent before the first answer.",
        |view, samples| samples.maybe(view.state.clock_skew),
    ),
    counter(
        "koodrive_credential_rotations_total",
        "How often the account's secret file was found to hold another secret than before.",
        |view, samples| samples.one(float(view.state.credential_rotations)),
    ),
    counter(
        "koodrive_credential_read_failures_total",
        "How often the account's secret file could not be read or held no secret.",
        |view, samples| samples.one(float(view.state.credential_read_failures)),
    ),
    gauge(
        "koodrive_account_info",
        "The account's endpoint (host only) and kind of credential; always 1.",
        |view, samples| {
            let labels = [("endpoint", view.account.endpoint.host()), ("auth_type", view.account.credential.kind())];
            samples.labelled(labels, 1.0);
        },
    ),
];
