//! The `Retry-After` header (RFC 9110, section 10.2.3): seconds, or a point of time.

use std::time::{Duration, SystemTime};

/// How long the server asks to be left alone; `None` for what is neither form.
///
/// A point of time is counted from each of `clocks`, the answer's own `Date` and the local clock, as either may be wrong:
/// the shortest wait counts. One that has passed by all of them asks for no wait.
#[must_use]
pub fn parse(value: &str, clocks: impl IntoIterator<Item = SystemTime>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than fit mean as long as can be.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let waits = clocks.into_iter().filter_map(|now| until.duration_since(now).ok());
    Some(waits.min().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn server_now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_762_153_300)
    }

    #[test]
    fn seconds_and_dates_are_read() {
        for (value, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Mon, 03 Nov 2025 07:02:40 GMT", Some(60)),
            ("Mon, 03 Nov 2025 07:00:00 GMT", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(parse(value, [server_now()]), expected.map(Duration::from_secs), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_wait_or_none(text in "\\PC*") {
            let _ = parse(&text, [server_now()]);
        }

        #[test]
        fn any_point_of_time_is_counted_from_the_clock_by_which_it_is_next(
            ahead in 0u64..1_000_000,
            wrong in -100_000_000i64..100_000_000,
        ) {
            let until = httpdate::fmt_http_date(server_now() + Duration::from_secs(ahead));
            let waits = [ahead.cast_signed(), ahead.cast_signed() + wrong].map(u64::try_from);
            let other = if wrong < 0 {
                server_now() + Duration::from_secs(wrong.unsigned_abs())
            } else {
                server_now() - Duration::from_secs(wrong.unsigned_abs())
            };
            let expected = waits.into_iter().flatten().min().map(Duration::from_secs);
            prop_assert_eq!(parse(&until, [server_now(), other]), expected);
        }
    }
}
