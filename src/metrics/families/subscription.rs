//! The subscription of a tenant.

use koodrive::subscription;

use super::{Family, Kinds, by_kind, number, reported};

const NEW_SIZE: Kinds = [
    ("personal", subscription::PERSONAL_SIZE),
    ("department", subscription::DEPARTMENT_SIZE),
    ("group", subscription::GROUP_SIZE),
];

pub(super) static FAMILIES: [Family; 5] = [
    number(
        "koodrive_service_frozen",
        subscription::FROZEN,
        "State of the tenant's service: 1 if it is frozen (data is kept, and nobody can use it), 0 if not; absent when older than max_age.",
    ),
    number(
        "koodrive_service_capacity_bytes",
        subscription::SPACE_CAPACITY,
        "Space of the subscription, in bytes: spaceCapacity of the service; absent when older than max_age.",
    ),
    number(
        "koodrive_service_users_max",
        subscription::USER_QUOTA,
        "Users that the subscription allows (seats); absent when older than max_age.",
    ),
    by_kind(
        "koodrive_new_space_bytes",
        NEW_SIZE,
        "Size of a new space by kind (personal, department, group), in bytes, 0 if the kind is not enabled; absent when older than max_age.",
    ),
    reported(
        "koodrive_subscription_reported",
        "Number of the subscription as the API gave it, without a unit; absent when older than max_age.",
    ),
];
