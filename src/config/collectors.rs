//! Which collectors an account has, when each of them polls, and the units of what they read.

use std::time::Duration;

use exporter_toolkit::settings::{Reported, Section, Taken, duration};
use koodrive::{Quantity, Resource, Unit, Units, overview::OVERVIEW};

use super::accounts::inherit;
use crate::account::PollPolicy;

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
    /// Takes them out of a section and of `poll` below it.
    pub(super) fn take(section: &mut Section<'_>, poll: &mut Section<'_>) -> Self {
        let names = section.take_list(
            "collectors",
            "Collectors of each account; `usage` and `subscription` are not part of every edition.",
            |name| {
                let found = Resource::ALL.into_iter().find(|resource| resource.name == name);
                found.ok_or("must be overview, usage or subscription")
            },
        );
        let names = match names {
            Ok(Some(names)) if !names.contains(&&OVERVIEW) => {
                Err(section.problem("collectors", "must contain overview, which says whether an account is up"))
            }
            names => names,
        };
        let further = Resource::ALL.into_iter().filter(|resource| *resource != &OVERVIEW);
        let interval = |resource: &'static Resource| {
            let mut of_collector = poll.section(resource.name);
            let meaning =
                format!("Time between two polls of an account's {}; `poll.interval` by default.", resource.name);
            let interval = of_collector.take("interval", &meaning, duration);
            of_collector.finish();
            (resource, interval)
        };
        let intervals = further.clone().map(interval).collect();
        let mut of_units = section.section("units");
        let mut units = take_units(&OVERVIEW, &mut of_units);
        for resource in further {
            let mut below = of_units.section(resource.name);
            units.extend(take_units(resource, &mut below));
            below.finish();
        }
        of_units.finish();
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

fn take_units(
    resource: &'static Resource,
    section: &mut Section<'_>,
) -> Vec<(&'static Resource, &'static str, Taken<Unit>)> {
    let unit = |field: &koodrive::FieldSpec| {
        let meaning = format!("The unit of `{}`, in powers of 1024.", field.name);
        Some(match field.quantity {
            Quantity::Space { key, .. } => (resource, key, section.take(key, &meaning, byte_unit)),
            Quantity::SpaceOrCount { key, .. } => (resource, key, section.take(key, &meaning, Unit::parse)),
            Quantity::OptionalGigabytes | Quantity::Count | Quantity::Flag => return None,
        })
    };
    resource.fields.iter().filter_map(unit).collect()
}

fn byte_unit(text: &str) -> Result<Unit, &'static str> {
    match Unit::parse(text) {
        Ok(Unit::Count) | Err(_) => Err("must be one of B, KB, MB, GB, TB"),
        unit => unit,
    }
}
