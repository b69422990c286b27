//! The space of an account, as the overview has it.

use exporter_toolkit::Kind;
use koodrive::overview::{QUOTA, TOTAL_ALLOCATION, TOTAL_CAPACITY, TOTAL_USED};

use super::{Family, family};

pub(super) static FAMILIES: [Family; 6] = [
    family(
        "koodrive_space_capacity_bytes",
        Kind::Gauge,
        &[],
        "Space that the account may use, in bytes: totalCapacity of KooDrive's space usage overview; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(TOTAL_CAPACITY)),
    ),
    family(
        "koodrive_space_used_bytes",
        Kind::Gauge,
        &[],
        "Space in use, in bytes, which may exceed the capacity: totalUsed of the overview; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(TOTAL_USED)),
    ),
    family(
        "koodrive_space_allocated_bytes",
        Kind::Gauge,
        &[],
        "Space allocated to users and departments, in bytes: totalAllocation of the overview; absent when older than max_age, or if its unit is count.",
        |view, samples| {
            if !view.account.counts_allocations() {
                samples.maybe(view.value(TOTAL_ALLOCATION));
            }
        },
    ),
    family(
        "koodrive_space_allocations",
        Kind::Gauge,
        &[],
        "Number of allocations: totalAllocation of the overview if its unit is configured as count; absent when older than max_age.",
        |view, samples| {
            if view.account.counts_allocations() {
                samples.maybe(view.value(TOTAL_ALLOCATION));
            }
        },
    ),
    family(
        "koodrive_space_quota_bytes",
        Kind::Gauge,
        &[],
        "Quota of the account, in bytes, if the overview has it; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(QUOTA)),
    ),
    family(
        "koodrive_space_reported",
        Kind::Gauge,
        &["field"],
        "Number of the overview as the API gave it, without a unit, to check the configured units; absent when older than max_age.",
        |view, samples| samples.reported(view),
    ),
];
