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
        "State of the tenant's service: 1 if it is frozen (data is kept, and nobody can use it), 0 if not; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(subscription::FROZEN)),
    ),
    family(
        "koodrive_service_capacity_bytes",
        Kind::Gauge,
        &[],
        "Space of the subscription, in bytes: spaceCapacity of the service; absent when older than max_age.",
        |view, samples| samples.maybe(view.value(subscription::SPACE_CAPACITY)),
    ),
    family(
        "koodrive_service_users_max",
        Kind::Gauge,
        &[],
        "Users that the subscription allows (seats); absent when older than max_age.",
        |view, samples| samples.maybe(view.value(subscription::USER_QUOTA)),
    ),
    family(
        "koodrive_new_space_bytes",
        Kind::Gauge,
        &["kind"],
        "Size of a new space by kind (personal, department, group), in bytes, 0 if the kind is not enabled; absent when older than max_age.",
        |view, samples| samples.by_kind(view, NEW_SIZE),
    ),
    family(
        "koodrive_subscription_reported",
        Kind::Gauge,
        &["field"],
        "Number of the subscription as the API gave it, without a unit; absent when older than max_age.",
        |view, samples| samples.reported(view),
    ),
];
