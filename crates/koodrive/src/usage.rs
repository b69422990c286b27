//! The usage of the tenant's space by kind: personal, department and group spaces; and its users.
//!
//! Documented are `spaceCapacity` in GB and the two numbers of users. The other units are inferred from the vendor's
//! sample, whose parts sum up to their totals. Carrier editions lack this endpoint.

use crate::{
    resource::{FieldSpec, Resource},
    unit::Unit,
};

/// `GET /koodrive/ose/v1/service/quotaUsed`.
pub static USAGE: Resource = Resource {
    name: "usage",
    path: "/koodrive/ose/v1/service/quotaUsed",
    fields: &[
        SPACE_CAPACITY,
        SPACE_USED,
        PERSONAL_USED,
        DEPARTMENT_USED,
        GROUP_USED,
        PERSONAL_QUOTA,
        DEPARTMENT_QUOTA,
        GROUP_QUOTA,
        QUOTA_GIVEN_OUT,
        PERSONAL_GIVEN_OUT,
        DEPARTMENT_GIVEN_OUT,
        GROUP_GIVEN_OUT,
        RESERVED_QUOTA,
        USERS,
        MAX_USERS,
    ],
};

/// The space that the tenant has subscribed to.
pub const SPACE_CAPACITY: FieldSpec = FieldSpec::space("spaceCapacity", "space_capacity", Unit::GB);
/// The space in use, of all kinds.
pub const SPACE_USED: FieldSpec = FieldSpec::space("spaceUsed", "space_used", Unit::KB);
/// The space in use by individuals.
pub const PERSONAL_USED: FieldSpec = FieldSpec::space("personalSpaceUsed", "personal_space_used", Unit::KB);
/// The space in use by departments.
pub const DEPARTMENT_USED: FieldSpec = FieldSpec::space("deptSpaceUsed", "dept_space_used", Unit::KB);
/// The space in use by groups.
pub const GROUP_USED: FieldSpec = FieldSpec::space("groupSpaceUsed", "group_space_used", Unit::KB);
/// The quota that is set aside for individuals.
pub const PERSONAL_QUOTA: FieldSpec = FieldSpec::space("personalSpaceQuota", "personal_space_quota", Unit::GB);
/// The quota that is set aside for departments.
pub const DEPARTMENT_QUOTA: FieldSpec = FieldSpec::space("deptSpaceQuota", "dept_space_quota", Unit::GB);
/// The quota that is set aside for groups.
pub const GROUP_QUOTA: FieldSpec = FieldSpec::space("groupSpaceQuota", "group_space_quota", Unit::GB);
/// How much quota has been given out, of all kinds.
pub const QUOTA_GIVEN_OUT: FieldSpec = FieldSpec::space("spaceQuotaUsed", "space_quota_used", Unit::GB);
/// How much quota individuals have been given.
pub const PERSONAL_GIVEN_OUT: FieldSpec =
    FieldSpec::space("personalSpaceQuotaUsed", "personal_space_quota_used", Unit::GB);
/// How much quota departments have been given.
pub const DEPARTMENT_GIVEN_OUT: FieldSpec = FieldSpec::space("deptSpaceQuotaUsed", "dept_space_quota_used", Unit::GB);
/// How much quota groups have been given.
pub const GROUP_GIVEN_OUT: FieldSpec = FieldSpec::space("groupSpaceQuotaUsed", "group_space_quota_used", Unit::GB);
/// The quota that is kept back.
pub const RESERVED_QUOTA: FieldSpec = FieldSpec::space("reservedSpaceQuota", "reserved_space_quota", Unit::GB);
/// The users that were created.
pub const USERS: FieldSpec = FieldSpec::count("userCount");
/// The users that the subscription allows.
pub const MAX_USERS: FieldSpec = FieldSpec::count("userMaxCount");
