//! The space of an account, as the overview has it.

use exporter_toolkit::Kind;
use koodrive::overview::{QUOTA, TOTAL_ALLOCATION, TOTAL_CAPACITY, TOTAL_USED};

use super::{Family, family};

pub(super) static FAMILIES: [Family; 6] = [
    family(
        "koodrive_space_capacity_bytes",
        Kind::Gauge,
        &[],
        "Space the account may use: totalCapacity of KooDrive's space usage overview, in bytes. Absent when older than max_age.",
        |view, samples| samples.maybe(view.value(TOTAL_CAPACITY)),
    ),
    family(
        "koodrive_space_used_bytes",
        Kind::Gauge,
        &[],
        "Space in use: totalUsed of the overview, in bytes. It may exceed the capacity. Absent when older than max_age.",
        |view, samples| samples.maybe(view.value(TOTAL_USED)),
    ),
    family(
        "koodrive_space_allocated_bytes",
        Kind::Gauge,
        &[],
        "Space allocated to users and departments: totalAllocation of the overview, in bytes. Absent when older than max_age, or where its unit is count.",
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
        "Number of allocations: totalAllocation of the overview where its unit is configured as count. Absent when older than max_age.",
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
        "Quota of the account, in bytes, where the overview has it. Absent when older than max_age.",
        |view, samples| samples.maybe(view.value(QUOTA)),
    ),
    family(
        "koodrive_space_reported",
        Kind::Gauge,
        &["field"],
        "The API's own number, as it gave it, to check the configured units against. Absent when older than max_age.",
        |view, samples| samples.reported(view),
    ),
];
