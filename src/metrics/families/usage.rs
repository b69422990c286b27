//! The space of a tenant by kind, and its users, as the usage has them.

use exporter_toolkit::Kind;
use koodrive::usage;

use super::{Family, Kinds, family};

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
    family(
        "koodrive_kind_used_bytes",
        Kind::Gauge,
        &["kind"],
        "Space in use by kind of space (personal, department, group), in bytes; absent when older than max_age.",
        |view, samples| samples.by_kind(view, USED),
    ),
    family(
        "koodrive_kind_quota_bytes",
        Kind::Gauge,
        &["kind"],
        "Quota reserved for a kind of space, in bytes; absent when older than max_age.",
        |view, samples| samples.by_kind(view, QUOTA),
    ),
    family(
        "koodrive_kind_quota_given_out_bytes",
        Kind::Gauge,
        &["kind"],
        "Quota of a kind of space that has been given out, in bytes; absent when older than max_age.",
        |view, samples| samples.by_kind(view, GIVEN_OUT),
    ),
    family(
        "koodrive_tenant_capacity_bytes",
        Kind::Gauge,
        &[],
        "Space that the tenant has subscribed to, in bytes: spaceCapacity of the usage; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(usage::SPACE_CAPACITY)),
    ),
    family(
        "koodrive_tenant_used_bytes",
        Kind::Gauge,
        &[],
        "Space in use by all kinds of space, in bytes: spaceUsed of the usage; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(usage::SPACE_USED)),
    ),
    family(
        "koodrive_tenant_quota_given_out_bytes",
        Kind::Gauge,
        &[],
        "Quota that has been given out to all kinds of space, in bytes; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(usage::QUOTA_GIVEN_OUT)),
    ),
    family(
        "koodrive_tenant_quota_reserved_bytes",
        Kind::Gauge,
        &[],
        "Quota that is held in reserve, in bytes; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(usage::RESERVED_QUOTA)),
    ),
    family(
        "koodrive_users",
        Kind::Gauge,
        &[],
        "Users that the tenant has created; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(usage::USERS)),
    ),
    family(
        "koodrive_users_max",
        Kind::Gauge,
        &[],
        "Users that the tenant has subscribed to (seats), as the usage has it; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(usage::MAX_USERS)),
    ),
    family(
        "koodrive_usage_reported",
        Kind::Gauge,
        &["field"],
        "Number of the usage as the API gave it, without a unit; absent when older than max_age.",
        |view, samples| samples.reported(view),
    ),
    family(
        "koodrive_units_doubtful",
        Kind::Gauge,
        &["field"],
        "Result of comparing a field's configured unit with the usage: 1 if the usage contradicts it, 0 if not; absent before the first comparison.",
        |view, samples| {
            for verdict in &view.state.unit_verdicts {
                samples.labelled([verdict.field.name], f64::from(u8::from(verdict.is_doubtful())));
            }
        },
    ),
];
