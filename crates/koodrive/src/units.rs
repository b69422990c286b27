//! All resources, and the units that their fields are configured to have.

use std::collections::BTreeMap;

use crate::{
    overview::OVERVIEW,
    resource::{FieldSpec, Resource},
    subscription::SUBSCRIPTION,
    unit::Unit,
    usage::USAGE,
};

impl Resource {
    /// All of them; the first is what every account is asked for.
    pub const ALL: [&'static Self; 3] = [&OVERVIEW, &USAGE, &SUBSCRIPTION];
}

impl FieldSpec {
    /// The key of its unit, below the configuration's `units`, where it has one.
    #[must_use]
    pub fn unit_key(self, resource: &Resource) -> Option<String> {
        let (key, _) = self.unit()?;
        Some(if resource == &OVERVIEW { key.to_owned() } else { format!("{}.{key}", resource.name) })
    }
}

/// The units that are configured, by the resource and the key. All others are those of the field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Units(BTreeMap<(&'static str, &'static str), Unit>);

impl Units {
    /// The unit of a field, where it has one.
    #[must_use]
    pub fn of(&self, resource: &Resource, field: FieldSpec) -> Option<Unit> {
        let (key, unit) = field.unit()?;
        Some(self.0.get(&(resource.name, key)).copied().unwrap_or(unit))
    }

    /// Whether a resource is read in the same units by both.
    #[must_use]
    pub fn agree_on(&self, other: &Self, resource: &Resource) -> bool {
        resource.fields.iter().all(|field| self.of(resource, *field) == other.of(resource, *field))
    }

    /// Sets the unit of what has this key.
    pub fn set(&mut self, resource: &'static Resource, key: &'static str, unit: Unit) {
        self.0.insert((resource.name, key), unit);
    }
}
