//! The space of a tenant by kind, and its users, as the usage has them.

use exporter_toolkit::Kind;
use koodrive::usage;

use super::{Family, Kinds, Reader, by_kind, number, reported};

const USED: Kinds =
    [("personal", usage::PERSONAL_USED), ("department", usage::DEPARTMENT_USED), ("group", usage::GROUP_USED)];
const QUOTA: Kinds =
    [("personal", usage::PERSONAL_QUOTA), ("department", usage::DEPARTMENT_QUOTA), ("group", usage::GROUP_QUOTA)];
const GIVEN_OUT: Kinds = [
    ("personal", usage::PERSONAL_GIVEN_OUT),
    ("department", usage::DEPARTMENT_GIVEN_OUT),
    ("group", usage::GROUP_GIVEN_OUT),
];

pub(super) static FAMILIES: [Family; 11] = [
    by_kind(
        "koodrive_kind_used_bytes",
        USED,
        "Space in use by kind of space (personal, department, group), in bytes; absent when older than max_age.",
    ),
    by_kind(
        "koodrive_kind_quota_bytes",
        QUOTA,
        "Quota reserved for a kind of space, in bytes; absent when older than max_age.",
    ),
    by_kind(
        "koodrive_kind_quota_given_out_bytes",
        GIVEN_OUT,
        "Quota of a kind of space that has been given out, in bytes; absent when older than max_age.",
    ),
    number(
        "koodrive_tenant_capacity_bytes",
        usage::SPACE_CAPACITY,
        "Space that the tenant has subscribed to, in bytes: spaceCapacity of the usage; absent when older than max_age.",
    ),
    number(
        "koodrive_tenant_used_bytes",
        usage::SPACE_USED,
        "Space in use by all kinds of space, in bytes: spaceUsed of the usage; absent when older than max_age.",
    ),
    number(
        "koodrive_tenant_quota_given_out_bytes",
        usage::QUOTA_GIVEN_OUT,
        "Quota that has been given out to all kinds of space, in bytes; absent when older than max_age.",
    ),
    number(
        "koodrive_tenant_quota_reserved_bytes",
        usage::RESERVED_QUOTA,
        "Quota that is held in reserve, in bytes; absent when older than max_age.",
    ),
    number("koodrive_users", usage::USERS, "Users that the tenant has created; absent when older than max_age."),
    number(
        "koodrive_users_max",
        usage::MAX_USERS,
        "Users that the tenant has subscribed to (seats), as the usage has it; absent when older than max_age.",
    ),
    reported(
        "koodrive_usage_reported",
        "Number of the usage as the API gave it, without a unit; absent when older than max_age.",
    ),
    Family {
        name: "koodrive_units_doubtful",
        kind: Kind::Gauge,
        labels: &["field"],
        help: "Result of comparing a field's configured unit with the usage: 1 if the usage contradicts it, 0 if not; absent before the first comparison.",
        reader: Reader::Samples(|view, samples| {
            for verdict in &view.state.unit_verdicts {
                samples.labelled([verdict.field.name], f64::from(u8::from(verdict.is_doubtful())));
            }
        }),
    },
];
