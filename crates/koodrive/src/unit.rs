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
    /// Reads `B`, `KB`, `MB`, `GB`, `TB` or `count`.
    ///
    /// # Errors
    /// Names the units there are.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "B" => Ok(Self::B),
            "KB" => Ok(Self::KB),
            "MB" => Ok(Self::MB),
            "GB" => Ok(Self::GB),
            "TB" => Ok(Self::TB),
            "count" => Ok(Self::Count),
            _ => Err("must be one of B, KB, MB, GB, TB, or count for total_allocation"),
        }
    }

    /// The unit as it is written in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::B => "B",
            Self::KB => "KB",
            Self::MB => "MB",
            Self::GB => "GB",
            Self::TB => "TB",
            Self::Count => "count",
        }
    }

    /// `reported` of these as bytes, or as itself for a count.
    ///
    /// Exact up to 2^53 and the nearest `f64` beyond: the product is formed in 128 bits, which
    /// 2^64 times 1024^4 does not exceed.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a gauge is an f64; the nearest value is right")]
    pub fn convert(self, reported: u64) -> f64 {
        let factor: u128 = match self {
            Self::B | Self::Count => 1,
            Self::KB => 1 << 10,
            Self::MB => 1 << 20,
            Self::GB => 1 << 30,
            Self::TB => 1 << 40,
        };
        (u128::from(reported) * factor) as f64
    }
}

/// The unit of each field of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Of `totalCapacity`: a byte unit.
    pub total_capacity: Unit,
    /// Of `totalUsed`: a byte unit.
    pub total_used: Unit,
    /// Of `totalAllocation`: a byte unit or a count.
    pub total_allocation: Unit,
}

impl Default for Units {
    fn default() -> Self {
        Self { total_capacity: Unit::KB, total_used: Unit::KB, total_allocation: Unit::KB }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_long_does_not_wrap_in_any_unit() {
        let largest = i64::MAX.unsigned_abs();
        assert_eq!(Unit::B.convert(largest), 2f64.powi(63));
        assert_eq!(Unit::KB.convert(largest), 2f64.powi(73));
        assert_eq!(Unit::TB.convert(largest), 2f64.powi(103));
    }

    #[test]
    fn eight_pebibytes_are_exact_to_the_kilobyte() {
        let kilobytes = (1u64 << 43) - 1;
        assert_eq!(Unit::KB.convert(kilobytes).to_string(), (kilobytes * 1024).to_string());
    }

    #[test]
    fn every_unit_reads_back_what_it_writes() {
        for unit in [Unit::B, Unit::KB, Unit::MB, Unit::GB, Unit::TB, Unit::Count] {
            assert_eq!(Unit::parse(unit.as_str()), Ok(unit));
        }
        assert!(Unit::parse("kb").is_err());
    }
}
