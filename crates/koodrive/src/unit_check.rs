//! Which unit each number of the overview is in, by the API's own other numbers.
//!
//! The usage repeats three of the overview's numbers in units that the vendor documents or its sample implies. A wrong
//! unit is wrong by a factor of 1024, so two numbers in the right units agree even if space was used or given out between
//! the two calls.

use std::fmt;

use crate::{
    answer::Answer,
    overview::{TOTAL_ALLOCATION, TOTAL_CAPACITY, TOTAL_USED},
    resource::{FieldSpec, Quantity},
    unit::Unit,
    units::Units,
    usage::{QUOTA_GIVEN_OUT, SPACE_CAPACITY, SPACE_USED, USAGE},
};

/// Numbers that differ by less than this factor are the same one.
const TOLERANCE: f64 = 3.0;

/// Nobody gives out space in more parts than this: a larger number is one of bytes.
const MAX_COUNT: f64 = 100_000.0;

/// What the usage says about the unit of one number of the overview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitVerdict {
    /// The overview's field.
    pub field: FieldSpec,
    /// The unit that it is read in.
    pub configured: Unit,
    /// The unit in which it agrees with the usage. A number that agrees in no unit of bytes and may be a count is
    /// taken for one.
    pub fits: Option<Unit>,
    /// Whether the number is small enough to be a count, so that agreement may be chance.
    may_be_count: bool,
}

impl UnitVerdict {
    /// Whether the configured unit contradicts the usage.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.fits != Some(self.configured)
    }
}

impl fmt::Display for UnitVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, configured, fits, .. } = self;
        let (name, configured) = (field.name, configured.as_str());
        let Some((key, _)) = field.unit() else { return Ok(()) };
        match fits {
            _ if !self.is_doubtful() => write!(f, "{name} is {configured} on this account, as configured"),
            Some(Unit::Count) => write!(
                f,
                "{name} matches the usage in no unit of bytes, configured as {configured}: it may be a count; then set \
                 units.{key}: count"
            ),
            Some(unit) if self.may_be_count => {
                let unit = unit.as_str();
                write!(
                    f,
                    "{name} may be {unit} or a count on this account, configured as {configured}: compare it with KooDrive's \
                     console, and set units.{key}"
                )
            }
            Some(unit) => {
                let factor = self.configured.convert(1.0) / unit.convert(1.0);
                let unit = unit.as_str();
                write!(f, "{name} is {unit} on this account, configured as {configured}")?;
                match self.configured {
                    Unit::Count => {}
                    _ if factor > 1.0 => write!(f, " and so shown {factor} times too large")?,
                    _ => write!(f, " and so shown {} times too small", factor.recip())?,
                }
                write!(f, ": set units.{key}: {unit}")
            }
            None => write!(
                f,
                "{name} matches the usage in no unit, configured as {configured}: compare it with \
                 KooDrive's console"
            ),
        }
    }
}

/// Compares what both answers say. A number that either lacks, or that is 0, gives no verdict, and so does any other
/// answer in the place of the usage.
#[must_use]
pub fn compare_units(overview: &Answer, usage: &Answer, units: &Units) -> Vec<UnitVerdict> {
    if usage.resource != &USAGE {
        return Vec::new();
    }
    let pairs = [(TOTAL_CAPACITY, SPACE_CAPACITY), (TOTAL_USED, SPACE_USED), (TOTAL_ALLOCATION, QUOTA_GIVEN_OUT)];
    let verdict = |(field, of_usage): (FieldSpec, FieldSpec)| {
        let (reported, reference) = (overview.measure(field)?.reported, usage.measure(of_usage)?.value);
        let configured = units.of(overview.resource, field)?;
        let agrees = |unit: &Unit| (1.0 / TOLERANCE..TOLERANCE).contains(&(unit.convert(reported) / reference));
        let fits = [Unit::B, Unit::KB, Unit::MB, Unit::GB, Unit::TB].into_iter().find(agrees);
        let may_be_count = matches!(field.quantity, Quantity::SpaceOrCount { .. }) && reported < MAX_COUNT;
        let fits = match fits {
            _ if may_be_count && configured == Unit::Count => Some(Unit::Count),
            None if may_be_count => Some(Unit::Count),
            fits => fits,
        };
        let verdict = UnitVerdict { field, configured, fits, may_be_count };
        (reported > 0.0 && reference > 0.0).then_some(verdict)
    };
    pairs.into_iter().filter_map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{answer, overview::OVERVIEW};

    fn verdicts(overview: &str, usage: &str, units: &Units) -> Vec<String> {
        let read = |resource, data: &str| {
            let body = format!(r#"{{"code":0,"data":{data}}}"#);
            answer::read(200, body.as_bytes(), resource, units).unwrap()
        };
        let verdicts = compare_units(&read(&OVERVIEW, overview), &read(&USAGE, usage), units);
        verdicts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_in_the_documented_units_are_confirmed_though_usage_grew() {
        let overview = r#"{"totalCapacity":1048576,"totalUsed":500,"totalAllocation":524288}"#;
        let usage = r#"{"spaceCapacity":1,"spaceUsed":540,"spaceQuotaUsed":0.5}"#;
        let confirmed = verdicts(overview, usage, &Units::default());
        assert_eq!(
            confirmed,
            ["totalCapacity is KB on this account, as configured", "totalUsed is KB on this account, as configured"]
        );
    }

    #[test]
    fn the_vendors_samples_say_gb_and_count_until_they_are_configured() {
        let overview = r#"{"totalCapacity":10240,"totalUsed":7753298,"totalAllocation":43}"#;
        let usage = r#"{"spaceCapacity":10240,"spaceUsed":7753298,"spaceQuotaUsed":327}"#;
        assert_eq!(
            verdicts(overview, usage, &Units::default()),
            [
                "totalCapacity is GB on this account, configured as KB and so shown 1048576 times too small: set \
                 units.total_capacity: GB",
                "totalUsed is KB on this account, as configured",
                "totalAllocation matches the usage in no unit of bytes, configured as KB: it may be a \
                 count; then set units.total_allocation: count",
            ]
        );
        let mut units = Units::default();
        units.set(&OVERVIEW, "total_capacity", Unit::GB);
        units.set(&OVERVIEW, "total_allocation", Unit::Count);
        assert!(verdicts(overview, usage, &units).iter().all(|verdict| verdict.ends_with("as configured")));
    }

    #[test]
    fn a_count_is_doubted_where_it_is_large_and_hedged_where_it_is_small() {
        let mut units = Units::default();
        units.set(&OVERVIEW, "total_allocation", Unit::Count);
        let usage = r#"{"spaceQuotaUsed":100}"#;
        let large = verdicts(r#"{"totalAllocation":104857600}"#, usage, &units);
        let capacity = verdicts(r#"{"totalCapacity":1048576}"#, r#"{"spaceCapacity":1}"#, &{
            let mut units = Units::default();
            units.set(&OVERVIEW, "total_capacity", Unit::MB);
            units
        });
        assert!(capacity[0].contains("configured as MB and so shown 1024 times too large"), "{capacity:?}");
        assert_eq!(
            large,
            ["totalAllocation is KB on this account, configured as count: set units.total_allocation: KB"]
        );
        assert!(verdicts(r#"{"totalAllocation":43}"#, usage, &units)[0].ends_with("as configured"));
        let small = verdicts(r#"{"totalAllocation":43}"#, usage, &Units::default());
        assert!(small[0].starts_with("totalAllocation may be GB or a count on this account"), "{small:?}");
    }

    #[test]
    fn nothing_is_said_of_numbers_that_are_missing_or_zero() {
        let usage = r#"{"spaceCapacity":0,"spaceUsed":5}"#;
        assert_eq!(verdicts(r#"{"totalCapacity":5,"totalUsed":0}"#, usage, &Units::default()), [""; 0]);
        let used = verdicts(r#"{"totalUsed":500}"#, usage, &Units::default());
        assert!(used[0].starts_with("totalUsed matches the usage in no unit"), "{used:?}");
    }
}
