//! The tenant's subscription: whether it is frozen, how many users it allows, and the size of new spaces.
//!
//! The units are inferred. Carrier editions lack this endpoint. What names the tenant is not read.

use crate::{
    resource::{FieldSpec, Quantity, Resource},
    unit::Unit,
};

/// `GET /koodrive/ose/v1/service`.
pub static SUBSCRIPTION: Resource = Resource {
    name: "subscription",
    path: "/koodrive/ose/v1/service",
    fields: &[FROZEN, SPACE_CAPACITY, USER_QUOTA, PERSONAL_SIZE, DEPARTMENT_SIZE, GROUP_SIZE],
};

/// 0 is normal; 1 is frozen: data is kept, and the tenant cannot use the service.
pub const FROZEN: FieldSpec = FieldSpec { name: "status", quantity: Quantity::Flag };
/// The space that the subscription has.
pub const SPACE_CAPACITY: FieldSpec = FieldSpec::space("spaceCapacity", "space_capacity", Unit::GB);
/// The users that the subscription allows, and not those that were created.
pub const USER_QUOTA: FieldSpec = FieldSpec::count("userCount");
/// The size of a new personal space; 0 where there are none.
pub const PERSONAL_SIZE: FieldSpec = FieldSpec::space("personalSpaceSize", "personal_space_size", Unit::GB);
/// The size of a new department space; 0 where there are none.
pub const DEPARTMENT_SIZE: FieldSpec = FieldSpec::space("departmentSpaceSize", "department_space_size", Unit::GB);
/// The size of a new group space; 0 where there are none.
pub const GROUP_SIZE: FieldSpec = FieldSpec::space("groupSpaceSize", "group_space_size", Unit::GB);
