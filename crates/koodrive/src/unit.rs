//! In which unit the API's numbers are meant.
//!
//! The vendor's page says KB for all three; its own sample contradicts it (a `totalUsed` 31 times
//! the `totalCapacity`), so each field's unit is configurable.

/// The unit of one field. The byte units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    B,
    /// 1024 bytes: the documented unit.
    KB,
    /// 1024^2 bytes.
    MB,
    /// 1024^3 bytes.
    GB,
    /// 1024^4 bytes.
    TB,
    /// No amount of bytes but a number of allocations.
    Count,
}

impl Unit {
    /// All of them, as they are written, each as a power of two.
    const ALL: [(Self, &'static str, u8); 6] = [
        (Self::B, "B", 0),
        (Self::KB, "KB", 10),
        (Self::MB, "MB", 20),
        (Self::GB, "GB", 30),
        (Self::TB, "TB", 40),
        (Self::Count, "count", 0),
    ];

    /// Reads `B`, `KB`, `MB`, `GB`, `TB` or `count`.
    ///
    /// # Errors
    /// Names the units there are.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let named = Self::ALL.into_iter().find(|(_, name, _)| *name == text);
        named.map(|(unit, ..)| unit).ok_or("must be one of B, KB, MB, GB, TB, or count for total_allocation")
    }

    /// The unit as it is written in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(unit, ..)| *unit == self).map_or("", |(_, name, _)| name)
    }

    /// `reported` of these as bytes, or as itself for a count: a power of two times the number, so nothing is lost.
    #[must_use]
    pub fn convert(self, reported: f64) -> f64 {
        let exponent = Self::ALL.into_iter().find(|(unit, ..)| *unit == self).map_or(0, |(.., exponent)| exponent);
        reported * f64::from(exponent).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_long_does_not_wrap_in_any_unit() {
        let largest = 2f64.powi(63);
        assert_eq!(Unit::B.convert(largest), largest);
        assert_eq!(Unit::KB.convert(largest), 2f64.powi(73));
        assert_eq!(Unit::TB.convert(largest), 2f64.powi(103));
    }

    #[test]
    fn eight_pebibytes_are_exact_to_the_kilobyte() {
        let kilobytes = 2f64.powi(43) - 1.0;
        assert_eq!(Unit::KB.convert(kilobytes).to_string(), ((1u64 << 53) - 1024).to_string());
    }

    #[test]
    fn every_unit_reads_back_what_it_writes() {
        for unit in [Unit::B, Unit::KB, Unit::MB, Unit::GB, Unit::TB, Unit::Count] {
            assert_eq!(Unit::parse(unit.as_str()), Ok(unit));
        }
        assert!(Unit::parse("kb").is_err());
    }
}
