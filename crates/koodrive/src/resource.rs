//! What is asked of the API: each endpoint with its path and the numbers in its answers.

use crate::unit::Unit;

/// One endpoint of the API.
#[derive(Debug)]
pub struct Resource {
    /// As in the configuration's `collectors` and in the `collector` label.
    pub name: &'static str,
    /// Below the base address.
    pub path: &'static str,
    /// The numbers in an answer's `data`.
    pub fields: &'static [FieldSpec],
}

/// A name is given once.
impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Resource {}

/// One number in the `data` of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldSpec {
    /// Its name there.
    pub name: &'static str,
    /// What it is a number of.
    pub quantity: Quantity,
}

impl FieldSpec {
    /// An amount of space: `key` is its name under the configuration's `units`, and `unit` the default.
    pub(super) const fn space(name: &'static str, key: &'static str, unit: Unit) -> Self {
        Self { name, quantity: Quantity::Space { key, unit } }
    }

    /// The key and the default of its unit, where it has one.
    pub(super) fn unit(self) -> Option<(&'static str, Unit)> {
        match self.quantity {
            Quantity::Space { key, unit } | Quantity::SpaceOrCount { key, unit } => Some((key, unit)),
            Quantity::OptionalGigabytes | Quantity::Count | Quantity::Flag => None,
        }
    }

    pub(super) const fn count(name: &'static str) -> Self {
        Self { name, quantity: Quantity::Count }
    }
}

/// What a field is a number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Space, in the unit that the configuration gives under `key`, or else in `unit`.
    Space {
        /// The key under `units`.
        key: &'static str,
        /// The documented or inferred unit.
        unit: Unit,
    },
    /// The same, and the configuration may say that it is no space but a count.
    SpaceOrCount {
        /// The key under `units`.
        key: &'static str,
        /// The documented unit.
        unit: Unit,
    },
    /// Space in GB, which may have a fraction or be missing.
    OptionalGigabytes,
    /// A number of users, say.
    Count,
    /// 0 or 1, and no other number.
    Flag,
}
