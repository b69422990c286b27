//! The `koodrive_*` families, in a table for each collector: name, kind, labels, help, and how to read each from an
//! account.

mod overview;
mod polls;
mod subscription;
mod usage;

use std::sync::Arc;

use exporter_toolkit::{Encoder, FamilyEncoder, Kind, float, rendered};
use koodrive::{FieldSpec, Quantity, overview::OVERVIEW, subscription::SUBSCRIPTION, usage::USAGE};

use crate::{
    account::Account,
    clock::{Moment, unix_seconds},
    poll::{AccountEntry, AccountState, AccountStore, Numbers},
};

/// One family of the accounts.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Those beside `account`, which all have, and `collector`, which those of further collectors have.
    labels: &'static [&'static str],
    pub(super) help: &'static str,
    reader: Reader,
}

/// Where the samples of an account come from.
enum Reader {
    Number(FieldSpec),
    ByKind(Kinds),
    /// The numbers of an answer as the API gave them, by field.
    Reported,
    Value(fn(&View) -> Option<f64>),
    Count(fn(&View) -> u64),
    Samples(fn(&View, &mut Samples<'_, '_>)),
}

/// The kinds of space, each with its field.
type Kinds = [(&'static str, FieldSpec); 3];

/// Tables and of which collectors they are. Those of `None` are of all beside the overview.
static TABLES: [(Option<&koodrive::Resource>, &[Family]); 5] = [
    (Some(&OVERVIEW), &overview::FAMILIES),
    (Some(&OVERVIEW), &polls::FAMILIES),
    (Some(&USAGE), &usage::FAMILIES),
    (Some(&SUBSCRIPTION), &subscription::FAMILIES),
    (None, &polls::FAMILIES_OF_COLLECTORS),
];

/// All families with their labels, in the order of the exposition.
pub(super) fn all() -> impl Iterator<Item = (&'static Family, Vec<&'static str>)> {
    TABLES.iter().flat_map(|(resource, families)| {
        let first = if resource.is_some() { &["account"][..] } else { &["account", "collector"] };
        families.iter().map(move |family| (family, [first, family.labels].concat()))
    })
}

/// One collector of one account at one moment.
struct View {
    account: Arc<Account>,
    /// The account's label, escaped once for all of its samples.
    label: Vec<u8>,
    /// The same and the collector's, unless it is the overview.
    label_with_collector: Vec<u8>,
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
    first: &'a [u8],
    labels: &'static [&'static str],
}

/// Writes all families of all accounts, which hold until the first of the shown values will be stale.
///
/// Each account's state is read once, so that its series agree. What `is_kept` is read later, when an age is wrong.
pub(super) fn write(store: &AccountStore, now: Moment, is_kept: bool, encoder: &mut Encoder) {
    let view = |entry: &Arc<AccountEntry>| {
        let (account, state) = (entry.account(), entry.state());
        let (label, created) = (rendered("account", &account.alias), unix_seconds(entry.created().wall));
        let collector = || [&label, &b","[..], &rendered("collector", account.collector.name)].concat();
        let label_with_collector = if account.is_overview() { Vec::new() } else { collector() };
        let is_fresh = state.fresh_numbers(account.poll.max_age, now).is_some();
        let due = entry.due().map(|due| due.expected_unix_seconds(now));
        View { account, label, label_with_collector, created, state, is_fresh, due, now }
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
                let first = if resource.is_some() { &view.label } else { &view.label_with_collector };
                family.reader.read(view, &mut Samples { writer: &mut writer, first, labels: family.labels });
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
}

impl Reader {
    fn read(&self, view: &View, samples: &mut Samples<'_, '_>) {
        let mut one = |value: Option<f64>| value.into_iter().for_each(|value| samples.labelled([], value));
        match self {
            Self::Number(field) => one(view.value(*field)),
            Self::Value(value) => one(value(view)),
            Self::Count(count) => one(Some(float(count(view)))),
            Self::ByKind(kinds) => {
                for (kind, field) in kinds {
                    view.value(*field).into_iter().for_each(|value| samples.labelled([kind], value));
                }
            }
            Self::Reported => {
                for (spec, field) in view.fresh_numbers().iter().flat_map(|numbers| numbers.answer.fields()) {
                    if let (Ok(measure), true) = (field, spec.quantity != Quantity::OptionalGigabytes) {
                        samples.labelled([spec.name], measure.reported);
                    }
                }
            }
            Self::Samples(write) => write(view, samples),
        }
    }
}

impl Samples<'_, '_> {
    /// A sample with these values of the family's labels.
    fn labelled<const N: usize>(&mut self, values: [&str; N], value: f64) {
        debug_assert_eq!(self.labels.len(), N);
        self.writer.sample("", self.first, self.labels.iter().copied().zip(values), value);
    }
}

const fn number(name: &'static str, field: FieldSpec, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, labels: &[], help, reader: Reader::Number(field) }
}

const fn by_kind(name: &'static str, kinds: Kinds, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, labels: &["kind"], help, reader: Reader::ByKind(kinds) }
}

const fn reported(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, labels: &["field"], help, reader: Reader::Reported }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&View) -> Option<f64>) -> Family {
    Family { name, kind: Kind::Gauge, labels: &[], help, reader: Reader::Value(value) }
}

const fn counter(name: &'static str, help: &'static str, count: fn(&View) -> u64) -> Family {
    Family { name, kind: Kind::Counter, labels: &[], help, reader: Reader::Count(count) }
}
