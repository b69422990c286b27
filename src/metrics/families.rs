//! The `koodrive_*` families, in one table: name, kind, labels, help, and how to read each from an account.

use std::sync::Arc;

use exporter_toolkit::{Encoder, FamilyEncoder, Kind, float, rendered};
use koodrive::{Field, Overview, Unit};

use crate::{
    account::Account,
    clock::Moment,
    poll::{AccountEntry, AccountState, AccountStore},
};

/// One family: `samples` writes those of one account.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Those beside `account`, which all bear.
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
    samples: fn(&View, &mut Samples<'_, '_>),
}

/// One account at one moment.
struct View {
    account: Arc<Account>,
    /// The account's label, escaped once for all of its samples.
    label: Vec<u8>,
    state: Arc<AccountState>,
    due: Option<Moment>,
    now: Moment,
}

/// Writes samples that bear the account's label, and the family's others.
struct Samples<'a, 'b> {
    writer: &'a mut FamilyEncoder<'b>,
    account: &'a [u8],
    labels: &'static [&'static str],
}

/// Writes all families of all accounts, which hold until the first of the shown values will be stale.
///
/// Each account's state is read once, so that its series agree.
pub(super) fn write(store: &AccountStore, now: Moment, encoder: &mut Encoder) {
    let view = |entry: &Arc<AccountEntry>| {
        let (account, state) = (entry.account(), entry.state());
        View { label: rendered("account", &account.alias), account, state, due: entry.due(), now }
    };
    let views: Vec<View> = store.entries().iter().map(view).collect();
    for family in &FAMILIES {
        let mut writer = encoder.family(family.name, family.kind, family.help);
        for view in &views {
            (family.samples)(view, &mut Samples { writer: &mut writer, account: &view.label, labels: family.labels });
        }
    }
    let max_age = |view: &View| view.account.poll.max_age;
    let stale_from = |view: &View| view.state.fresh_space(max_age(view), now)?.stale_from(max_age(view));
    if let Some(first) = views.iter().filter_map(stale_from).min() {
        encoder.valid_until(first);
    }
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
        self.account.api.units.total_allocation == Unit::Count
    }
}

impl Samples<'_, '_> {
    fn one(&mut self, value: f64) {
        self.labelled([], value);
    }

    fn maybe(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.one(value);
        }
    }

    /// A sample with these values of the family's labels.
    fn labelled<const N: usize>(&mut self, values: [&str; N], value: f64) {
        debug_assert_eq!(self.labels.len(), N);
        self.writer.sample("", self.account, self.labels.iter().copied().zip(values), value);
    }
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&View, &mut Samples<'_, '_>),
) -> Family {
    Family { name, kind, labels, help, samples }
}

pub(super) static FAMILIES: [Family; 19] = [
    family(
        "koodrive_space_capacity_bytes",
        Kind::Gauge,
        &[],
        "Space the account may use: totalCapacity of KooDrive's space usage overview, in bytes. Absent when older than max_age.",
        |view, samples| samples.maybe(view.value(|overview| &overview.total_capacity)),
    ),
    family(
        "koodrive_space_used_bytes",
        Kind::Gauge,
        &[],
        "Space in use: totalUsed of the overview, in bytes. It may exceed the capacity. Absent when older than max_age.",
        |view, samples| samples.maybe(view.value(|overview| &overview.total_used)),
    ),
    family(
        "koodrive_space_allocated_bytes",
        Kind::Gauge,
        &[],
        "Space allocated to users and departments: totalAllocation of the overview, in bytes. Absent when older than max_age, or where its unit is count.",
        |view, samples| {
            if !view.counts_allocations() {
                samples.maybe(view.value(|overview| &overview.total_allocation));
            }
        },
    ),
    family(
        "koodrive_space_allocations",
        Kind::Gauge,
        &[],
        "Number of allocations: totalAllocation of the overview where its unit is configured as count. Absent when older than max_age.",
        |view, samples| {
            if view.counts_allocations() {
                samples.maybe(view.value(|overview| &overview.total_allocation));
            }
        },
    ),
    family(
        "koodrive_space_quota_bytes",
        Kind::Gauge,
        &[],
        "Quota of the account, in bytes, where the overview has it. Absent when older than max_age.",
        |view, samples| samples.maybe(view.overview().and_then(|overview| overview.quota?.ok())),
    ),
    family(
        "koodrive_space_reported",
        Kind::Gauge,
        &["field"],
        "The API's own number, as it gave it, to check the configured units against. Absent when older than max_age.",
        |view, samples| {
            let Some(overview) = view.overview() else { return };
            for (name, field) in [
                ("totalCapacity", overview.total_capacity),
                ("totalUsed", overview.total_used),
                ("totalAllocation", overview.total_allocation),
            ] {
                if let Ok(measure) = field {
                    samples.labelled([name], float(measure.reported));
                }
            }
        },
    ),
    family(
        "koodrive_up",
        Kind::Gauge,
        &[],
        "Whether the latest finished poll of the account succeeded (1) or not (0). Absent before the first.",
        |view, samples| samples.maybe(view.state.latest.is_some().then(|| f64::from(u8::from(view.state.up())))),
    ),
    family(
        "koodrive_poll_last_success_timestamp_seconds",
        Kind::Gauge,
        &[],
        "When the latest poll ended whose whole answer was good, in Unix time; 0 is never.",
        |view, samples| samples.one(view.state.last_success.map_or(0.0, |success| success.unix_seconds(view.now))),
    ),
    family(
        "koodrive_poll_last_attempt_timestamp_seconds",
        Kind::Gauge,
        &[],
        "When the latest finished poll began, in Unix time; 0 is never.",
        |view, samples| {
            samples.one(view.state.latest.as_ref().map_or(0.0, |latest| latest.began.unix_seconds(view.now)));
        },
    ),
    family(
        "koodrive_poll_last_duration_seconds",
        Kind::Gauge,
        &[],
        "How long the latest finished poll took, retries included. Absent before the first.",
        |view, samples| samples.maybe(view.state.latest.as_ref().map(|latest| latest.duration.as_secs_f64())),
    ),
    family(
        "koodrive_poll_next_timestamp_seconds",
        Kind::Gauge,
        &[],
        "When the next poll is due, in Unix time, as back-off and Retry-After have it. Absent where none is planned.",
        |view, samples| samples.maybe(view.due.map(|due| due.unix_seconds(view.now))),
    ),
    family(
        "koodrive_poll_interval_seconds",
        Kind::Gauge,
        &[],
        "How often the account is polled, as configured.",
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
        "Why the latest finished poll of the account failed; always 1, and absent where it succeeded.",
        |view, samples| {
            if let Some(failure) = view.state.failure() {
                samples.labelled([failure.reason.as_str()], 1.0);
            }
        },
    ),
    family(
        "koodrive_api_clock_skew_seconds",
        Kind::Gauge,
        &[],
        "The local clock minus the Date header of the API's latest answer: positive when this host is ahead. Absent before the first answer.",
        |view, samples| samples.maybe(view.state.clock_skew),
    ),
    family(
        "koodrive_credential_rotations_total",
        Kind::Counter,
        &[],
        "How often the account's secret file was found to hold another secret than before.",
        |view, samples| samples.one(float(view.state.credential_rotations)),
    ),
    family(
        "koodrive_credential_read_failures_total",
        Kind::Counter,
        &[],
        "How often the account's secret file could not be read or held no secret.",
        |view, samples| samples.one(float(view.state.credential_read_failures)),
    ),
    family(
        "koodrive_account_info",
        Kind::Gauge,
        &["endpoint", "auth_type"],
        "The account's endpoint (host only) and kind of credential; always 1.",
        |view, samples| {
            samples.labelled([view.account.api.endpoint.host(), view.account.api.credential.kind()], 1.0);
        },
    ),
];
