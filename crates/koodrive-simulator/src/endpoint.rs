//! The endpoints of the API, and numbers of each that fit the overview's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An endpoint of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// The space usage overview.
    Overview,
    /// The usage by kind of space, and the users.
    Usage,
    /// The subscription.
    Subscription,
}

/// Units (`B`, `KB`, `MB`, `GB`, `TB`, `count`) of the overview's numbers, by field.
pub type Units = BTreeMap<String, String>;

/// How many allocations a count says.
const ALLOCATIONS: u64 = 43;

const KILOBYTES_OF_A_GIGABYTE: u64 = 1 << 20;

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Overview, Self::Usage, Self::Subscription];

    /// The endpoint at a path.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/koodrive/ose/v1/space/usage/overview" => Some(Self::Overview),
            "/koodrive/ose/v1/service/quotaUsed" => Some(Self::Usage),
            "/koodrive/ose/v1/service" => Some(Self::Subscription),
            _ => None,
        }
    }

    /// The `data` of an answer that fits an overview in KB.
    pub(super) fn beside(self, overview: &Value) -> Value {
        let number = |field: &str| overview.get(field).and_then(Value::as_u64).unwrap_or_default();
        let gigabytes = |field: &str| (number(field) + KILOBYTES_OF_A_GIGABYTE / 2) / KILOBYTES_OF_A_GIGABYTE;
        let (capacity, used, given_out) =
            (gigabytes("totalCapacity"), number("totalUsed"), gigabytes("totalAllocation"));
        let users_max = capacity.clamp(50, 10_000);
        let users = users_max / 20 * 17;
        match self {
            Self::Overview => overview.clone(),
            Self::Usage => json!({
                "spaceCapacity": capacity,
                "spaceUsed": used,
                "personalSpaceUsed": used / 2,
                "deptSpaceUsed": used / 3,
                "groupSpaceUsed": used - used / 2 - used / 3,
                "personalSpaceQuota": capacity / 5 * 3,
                "deptSpaceQuota": capacity / 5,
                "groupSpaceQuota": capacity - capacity / 5 * 4,
                "spaceQuotaUsed": given_out,
                "personalSpaceQuotaUsed": given_out / 2,
                "deptSpaceQuotaUsed": given_out / 4,
                "groupSpaceQuotaUsed": given_out - given_out / 2 - given_out / 4,
                "reservedSpaceQuota": capacity / 20,
                "userCount": users,
                "userMaxCount": users_max,
                "productType": "simulated",
            }),
            Self::Subscription => json!({
                "status": 0,
                "spaceCapacity": capacity,
                "userCount": users_max,
                "personalSpaceSize": 50,
                "departmentSpaceSize": 500,
                "groupSpaceSize": 200,
                "organizationName": "A simulated organisation",
                "tenantId": "simulated-tenant",
            }),
        }
    }
}

/// The overview's numbers, which are in KB, in other units.
pub(super) fn in_units(mut overview: Value, units: &Units) -> Value {
    for (field, unit) in units {
        let Some(number) = overview.get_mut(field) else { continue };
        let Some(kilobytes) = number.as_u64() else { continue };
        *number = match unit.as_str() {
            "B" => kilobytes.saturating_mul(1 << 10),
            "MB" => kilobytes >> 10,
            "GB" => kilobytes >> 20,
            "TB" => kilobytes >> 30,
            "count" => ALLOCATIONS,
            _ => kilobytes,
        }
        .into();
    }
    overview
}
