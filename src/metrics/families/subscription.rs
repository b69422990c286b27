//! The subscription of a tenant.

use exporter_toolkit::Kind;
use koodrive::subscription;

use super::{Family, Kinds, family};

const NEW_SIZE: Kinds = [
    ("personal", subscription::PERSONAL_SIZE),
    ("department", subscription::DEPARTMENT_SIZE),
    ("group", subscription::GROUP_SIZE),
];

pub(super) static FAMILIES: [Family; 5] = [
    family(
        "koodrive_service_frozen",
        Kind::Gauge,
        &[],
        "Whether the tenant's service is frozen (1: data is kept, and nobody can use it) or not (0). Absent when older than max_age.",
        |view, samples| samples.maybe(view.value(subscription::FROZEN)),
    ),
    family(
        "koodrive_service_capacity_bytes",
        Kind::Gauge,
        &[],
        "Space of the subscription: spaceCapacity of the service, in bytes. Absent when older than max_age.",
        |view, samples| samples.maybe(view.value(subscription::SPACE_CAPACITY)),
    ),
    family(
        "koodrive_service_users_max",
        Kind::Gauge,
        &[],
        "Users that the subscription allows (seats). Absent when older than max_age.",
        |view, samples| samples.maybe(view.value(subscription::USER_QUOTA)),
    ),
    family(
        "koodrive_new_space_bytes",
        Kind::Gauge,
        &["kind"],
        "Size of a new space by kind (personal, department, group), in bytes; 0 where the kind is not enabled. Absent when older than max_age.",
        |view, samples| samples.by_kind(view, NEW_SIZE),
    ),
    family(
        "koodrive_subscription_reported",
        Kind::Gauge,
        &["field"],
        "The API's own numbers of the subscription, as it gave them. Absent when older than max_age.",
        |view, samples| samples.reported(view),
    ),
];
