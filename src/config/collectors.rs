//! Which collectors an account has, when each of them polls, and the units of what they read.

use std::time::Duration;

use exporter_toolkit::settings::{Reported, Section, Taken, duration};
use koodrive::{FieldSpec, Quantity, Resource, Unit, Units, overview::OVERVIEW};

use crate::account::PollPolicy;

/// The key of their names, by which it is read and shown.
pub(super) const COLLECTORS: &str = "collectors";

/// The key of a further collector's interval.
pub(super) fn interval_key(resource: &Resource) -> String {
    format!("poll.{}.interval", resource.name)
}

/// The key of a field's unit, where it has one.
pub(super) fn unit_key(resource: &Resource, field: FieldSpec) -> Option<String> {
    Some(format!("units.{}", field.unit_key(resource)?))
}

/// Values are shown for this many intervals unless `max_age` says otherwise.
pub(super) const DEFAULT_MAX_AGE_INTERVALS: u32 = 3;

/// The settings of all collectors, whether or not an account has them.
pub(super) struct Collectors {
    names: Taken<Vec<&'static Resource>>,
    /// Of those beside the overview.
    intervals: Vec<(&'static Resource, Taken<Duration>)>,
    units: Vec<(&'static Resource, &'static str, Taken<Unit>)>,
}

impl Collectors {
    /// Takes them out of a section.
    pub(super) fn take(section: &mut Section<'_>) -> Self {
        let names = section.take_list(
            COLLECTORS,
            "Collectors of each account; `usage` and `subscription` are not part of every edition.",
            |name| {
                let found = Resource::ALL.into_iter().find(|resource| resource.name == name);
                found.ok_or("must be overview, usage or subscription")
            },
        );
        let names = match names {
            Ok(Some(names)) if !names.contains(&&OVERVIEW) => {
                Err(section.problem(COLLECTORS, "must contain overview, which says whether an account is up"))
            }
            names => names,
        };
        let further = Resource::ALL.into_iter().filter(|resource| *resource != &OVERVIEW);
        let interval = |resource: &'static Resource| {
            let meaning =
                format!("Time between two polls of an account's {}; `poll.interval` by default.", resource.name);
            (resource, section.take(&interval_key(resource), &meaning, duration))
        };
        let intervals = further.map(interval).collect();
        let fields =
            Resource::ALL.into_iter().flat_map(|resource| resource.fields.iter().map(move |field| (resource, *field)));
        let units = fields.filter_map(|(resource, field)| take_unit(section, resource, field)).collect();
        Self { names, intervals, units }
    }

    /// The units that an account or else the top sets.
    pub(super) fn units(own: &Self, top: &Self) -> Result<Units, Reported> {
        let mut units = Units::default();
        for ((resource, key, own), (_, _, top)) in own.units.iter().zip(&top.units) {
            if let Some(unit) = inherit(own, top)? {
                units.set(resource, key, unit);
            }
        }
        Ok(units)
    }

    /// The collectors of an account, the overview first, and when each polls; `policy` is the overview's.
    pub(super) fn policies(
        own: &Self,
        top: &Self,
        policy: PollPolicy,
    ) -> Result<Vec<(&'static Resource, PollPolicy)>, Reported> {
        let names = inherit(&own.names, &top.names)?.unwrap_or_else(|| vec![&OVERVIEW]);
        let mut policies = vec![(&OVERVIEW, policy)];
        for ((resource, own), (_, top)) in own.intervals.iter().zip(&top.intervals) {
            let policy = inherit(own, top)?.map_or(policy, |interval| PollPolicy {
                interval,
                timeout: policy.timeout.min(interval),
                max_age: interval * DEFAULT_MAX_AGE_INTERVALS,
            });
            if names.contains(resource) {
                policies.push((resource, policy));
            }
        }
        Ok(policies)
    }
}

fn take_unit(
    section: &mut Section<'_>,
    resource: &'static Resource,
    field: FieldSpec,
) -> Option<(&'static Resource, &'static str, Taken<Unit>)> {
    let path = unit_key(resource, field)?;
    let meaning = format!("The unit of `{}`, in powers of 1024.", field.name);
    match field.quantity {
        Quantity::Space { key, .. } => Some((resource, key, section.take(&path, &meaning, byte_unit))),
        Quantity::SpaceOrCount { key, .. } => Some((resource, key, section.take(&path, &meaning, Unit::parse))),
        Quantity::OptionalGigabytes | Quantity::Count | Quantity::Flag => None,
    }
}

fn byte_unit(text: &str) -> Result<Unit, &'static str> {
    match Unit::parse(text) {
        Ok(Unit::Count) | Err(_) => Err("must be one of B, KB, MB, GB, TB"),
        unit => unit,
    }
}

/// An account's own value, or else the one at the top.
pub(super) fn inherit<T: Clone>(own: &Taken<T>, default: &Taken<T>) -> Taken<T> {
    match own {
        Ok(None) => default.clone(),
        own => own.clone(),
    }
}
