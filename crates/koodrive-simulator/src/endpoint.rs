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

/// Units of the overview's numbers, by field.
pub type Units = BTreeMap<Field, Unit>;

/// A number of the overview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Field {
    /// The capacity.
    #[serde(rename = "totalCapacity")]
    Capacity,
    /// The usage.
    #[serde(rename = "totalUsed")]
    Used,
    /// The allocation.
    #[serde(rename = "totalAllocation")]
    Allocation,
}

/// A unit of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Unit {
    /// Bytes.
    B,
    /// 1024 bytes.
    KB,
    /// 1024^2 bytes.
    MB,
    /// 1024^3 bytes.
    GB,
    /// 1024^4 bytes.
    TB,
    /// No bytes but a number of allocations.
    #[serde(rename = "count")]
    Count,
}

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
        let name = match field {
            Field::Capacity => "totalCapacity",
            Field::Used => "totalUsed",
            Field::Allocation => "totalAllocation",
        };
        let Some(number) = overview.get_mut(name) else { continue };
        let Some(kilobytes) = number.as_u64() else { continue };
        *number = match unit {
            Unit::B => kilobytes.saturating_mul(1 << 10),
            Unit::KB => kilobytes,
            Unit::MB => kilobytes >> 10,
            Unit::GB => kilobytes >> 20,
            Unit::TB => kilobytes >> 30,
            Unit::Count => ALLOCATIONS,
        }
        .into();
    }
    overview
}
