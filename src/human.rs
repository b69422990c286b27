//! Numbers as people read them.

use std::time::Duration;

/// An amount of bytes in the largest unit that fits.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut amount, mut unit) = (bytes, UNITS[0]);
    for larger in &UNITS[1..] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    format!("{amount:.1} {unit}")
}

/// A length of time in its two largest units: `3 h 20 min`, `12 s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut seconds = duration.as_secs();
    let mut parts = Vec::new();
    for (length, unit) in UNITS {
        if seconds >= length {
            parts.push(format!("{} {unit}", seconds / length));
        }
        seconds %= length;
    }
    parts.truncate(2);
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_in_the_largest_unit_that_fits() {
        assert_eq!(bytes(0.0), "0.0 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(2f64.powi(40)), "1.0 TiB");
        assert_eq!(bytes(2f64.powi(73)), "8192.0 EiB");
    }

    #[test]
    fn lengths_of_time_are_told_in_their_two_largest_units() {
        for (seconds, expected) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7200, "2 h"), (100_000, "1 d 3 h")] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }
}
