//! Numbers as people read them.

use std::time::Duration;

/// An amount of bytes in the largest unit that fits.
#[must_use]
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let sizes = (0..).map(|power| 1024f64.powi(power)).zip(UNITS);
    let (size, unit) = sizes.take_while(|(size, _)| *size <= bytes).last().unwrap_or((1.0, "B"));
    format!("{:.1} {unit}", bytes / size)
}

/// A duration in its largest unit and the next one: `3 h 20 min`, `12 s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut seconds = duration.as_secs();
    let counts = UNITS.map(|(length, unit)| {
        let count = seconds / length;
        seconds %= length;
        (count, unit)
    });
    let from_largest = counts.into_iter().skip_while(|(count, _)| *count == 0).take(2);
    let parts: Vec<_> =
        from_largest.filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}")).collect();
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!(bytes(0.0), "0.0 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(2f64.powi(40)), "1.0 TiB");
        assert_eq!(bytes(2f64.powi(73)), "8192.0 EiB");
    }

    #[test]
    fn lengths_of_time_are_shown_in_their_largest_unit_and_the_next_one() {
        let cases = [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7200, "2 h"), (100_000, "1 d 3 h"), (86_411, "1 d")];
        for (seconds, expected) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }
}
