//! Numbers as people read them.

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
}
