//! The space of an account, as the overview has it.

use koodrive::overview::{QUOTA, TOTAL_ALLOCATION, TOTAL_CAPACITY, TOTAL_USED};

use super::{Family, gauge, number, reported};

pub(super) static FAMILIES: [Family; 6] = [
    number(
        "koodrive_space_capacity_bytes",
        TOTAL_CAPACITY,
        "Space that the account may use, in bytes: totalCapacity of KooDrive's space usage overview; absent when older than max_age.",
    ),
    number(
        "koodrive_space_used_bytes",
        TOTAL_USED,
        "Space in use, in bytes, which may exceed the capacity: totalUsed of the overview; absent when older than max_age.",
    ),
    gauge(
        "koodrive_space_allocated_bytes",
        "Space allocated to users and departments, in bytes: totalAllocation of the overview; absent when older than max_age, or if its unit is count.",
        |view| view.value(TOTAL_ALLOCATION).filter(|_| !view.account.counts_allocations()),
    ),
    gauge(
        "koodrive_space_allocations",
        "Number of allocations: totalAllocation of the overview if its unit is configured as count; absent when older than max_age.",
        |view| view.value(TOTAL_ALLOCATION).filter(|_| view.account.counts_allocations()),
    ),
    number(
        "koodrive_space_quota_bytes",
        QUOTA,
        "Quota of the account, in bytes, if the overview has it; absent when older than max_age.",
    ),
    reported(
        "koodrive_space_reported",
        "Number of the overview as the API gave it, without a unit, to check the configured units; absent when older than max_age.",
    ),
];
