//! The space usage overview: how much space an account has, and how much of it is used.
//!
//! The units are those of the vendor's page, which its own sample contradicts.

use crate::{
    resource::{FieldSpec, Quantity, Resource},
    unit::Unit,
};

/// `GET /koodrive/ose/v1/space/usage/overview`.
pub static OVERVIEW: Resource = Resource {
    name: "overview",
    path: "/koodrive/ose/v1/space/usage/overview",
    fields: &[TOTAL_CAPACITY, TOTAL_USED, TOTAL_ALLOCATION, QUOTA],
};

/// The space that the account may use.
pub const TOTAL_CAPACITY: FieldSpec = FieldSpec::space("totalCapacity", "total_capacity", Unit::KB);
/// The space in use. It may exceed the capacity.
pub const TOTAL_USED: FieldSpec = FieldSpec::space("totalUsed", "total_used", Unit::KB);
/// The space that has been given out, or in how many parts.
pub const TOTAL_ALLOCATION: FieldSpec =
    FieldSpec { name: "totalAllocation", quantity: Quantity::SpaceOrCount { key: "total_allocation", unit: Unit::KB } };
/// The account's quota.
pub const QUOTA: FieldSpec = FieldSpec { name: "quota", quantity: Quantity::OptionalGigabytes };
