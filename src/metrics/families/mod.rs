//! The `koodrive_*` families, in a table for each collector: name, kind, labels, help, and how to read each from an
//! account.

mod collectors;
mod overview;
mod polls;
mod subscription;
mod usage;

use std::sync::Arc;

use exporter_toolkit::{Encoder, FamilyEncoder, Kind, rendered};
use koodrive::{FieldSpec, Quantity, overview::OVERVIEW, subscription::SUBSCRIPTION, usage::USAGE};

use crate::{
    account::Account,
    clock::{Moment, unix_seconds},
    poll::{AccountEntry, AccountState, AccountStore, Numbers},
};

/// One family: `samples` writes those of one account.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Those beside `account`, which all have.
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
    samples: fn(&View, &mut Samples<'_, '_>),
}

/// Tables and of which collectors they are. Those of `None` are of all beside the overview.
static TABLES: [(Option<&koodrive::Resource>, &[Family]); 5] = [
    (Some(&OVERVIEW), &overview::FAMILIES),
    (Some(&OVERVIEW), &polls::FAMILIES),
    (Some(&USAGE), &usage::FAMILIES),
    (Some(&SUBSCRIPTION), &subscription::FAMILIES),
    (None, &collectors::FAMILIES),
];

/// All families, in the order of the exposition.
pub(super) fn all() -> impl Iterator<Item = &'static Family> {
    TABLES.iter().flat_map(|(_, families)| *families)
}

/// The kinds of space, each with its field.
type Kinds = [(&'static str, FieldSpec); 3];

/// One collector of one account at one moment.
struct View {
    account: Arc<Account>,
    /// The account's label, escaped once for all of its samples.
    label: Vec<u8>,
    /// When the account's counters began, in Unix time.
    created: f64,
    state: Arc<AccountState>,
    /// Whether its numbers are at most `max_age` old.
    is_fresh: bool,
    /// When it is polled next, in Unix time.
    due: Option<f64>,
    now: Moment,
}

/// Writes samples with the account's label, and the family's others.
struct Samples<'a, 'b> {
    writer: &'a mut FamilyEncoder<'b>,
    account: &'a [u8],
    labels: &'static [&'static str],
}

/// Writes all families of all accounts, which hold until the first of the shown values will be stale.
///
/// Each account's state is read once, so that its series agree. What `is_kept` is read later, when an age is wrong.
pub(super) fn write(store: &AccountStore, now: Moment, is_kept: bool, encoder: &mut Encoder) {
    let view = |entry: &Arc<AccountEntry>| {
        let (account, state) = (entry.account(), entry.state());
        let (label, created) = (rendered("account", &account.alias), unix_seconds(entry.created().wall));
        let is_fresh = state.fresh_numbers(account.poll.max_age, now).is_some();
        let due = entry.due().map(|due| due.expected_unix_seconds(now));
        View { account, label, created, state, is_fresh, due, now }
    };
    let views: Vec<View> = store.entries().iter().map(view).collect();
    for (resource, families) in &TABLES {
        let is_of = |view: &&View| match resource {
            Some(resource) => view.account.collector == *resource,
            None => !view.account.is_overview(),
        };
        let views: Vec<&View> = views.iter().filter(is_of).collect();
        for family in families.iter().filter(|family| !(is_kept && family.name == polls::AGE)) {
            let mut writer = encoder.family(family.name, family.kind, family.help);
            for view in &views {
                writer.created(view.created);
                let mut samples = Samples { writer: &mut writer, account: &view.label, labels: family.labels };
                (family.samples)(view, &mut samples);
            }
        }
    }
    let stale_from = |view: &View| view.fresh_numbers()?.stale_from(view.account.poll.max_age);
    if let Some(first) = views.iter().filter_map(stale_from).min() {
        encoder.valid_until(first);
    }
}

impl View {
    fn fresh_numbers(&self) -> Option<&Numbers> {
        self.state.numbers.as_ref().filter(|_| self.is_fresh)
    }

    /// The good number of a field, while it is fresh.
    fn value(&self, field: FieldSpec) -> Option<f64> {
        Some(self.fresh_numbers()?.answer.measure(field)?.value)
    }

    /// When the last successful poll ended, in Unix time; 0 if it never happened.
    fn last_success(&self) -> f64 {
        self.state.last_success.map_or(0.0, |success| success.unix_seconds(self.now))
    }

    fn collector(&self) -> &'static str {
        self.account.collector.name
    }
}

impl Samples<'_, '_> {
    fn one(&mut self, value: f64) {
        self.labelled([], value);
    }

    /// The numbers of a fresh answer as the API gave them, by field.
    fn reported(&mut self, view: &View) {
        for (spec, field) in view.fresh_numbers().iter().flat_map(|numbers| numbers.answer.fields()) {
            if let (Ok(measure), true) = (field, spec.quantity != Quantity::OptionalGigabytes) {
                self.labelled([spec.name], measure.reported);
            }
        }
    }

    /// The good numbers of each kind of space.
    fn by_kind(&mut self, view: &View, kinds: Kinds) {
        for (kind, field) in kinds {
            if let Some(value) = view.value(field) {
                self.labelled([kind], value);
            }
        }
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
