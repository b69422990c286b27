//! The `Retry-After` header (RFC 9110, section 10.2.3): seconds, or a point of time.

use std::time::{Duration, SystemTime};

/// A `Date` that is further from the local clock than this may be wrong by as much: of a request whose `X-Date` is, the API
/// takes none.
const MAX_SKEW: Duration = Duration::from_mins(15);

/// How long the server asks to be left alone; `None` for what is neither form.
///
/// A point of time is counted from `date`, the answer's own `Date`: only the server's clock matters for it. Where that is far
/// from the local clock, one of the two is wrong, and of the waits that are left by them, the shorter one counts.
#[must_use]
pub fn parse(value: &str, date: Option<SystemTime>, local: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than fit mean as long as can be.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let date = date.unwrap_or(local);
    let skew = date.duration_since(local).unwrap_or_else(|behind| behind.duration());
    if date.duration_since(until).is_ok_and(|ago| ago <= MAX_SKEW) {
        // Just now, by the clock that both come from.
        return Some(Duration::ZERO);
    }
    let clocks = if skew > MAX_SKEW { [date, local] } else { [date; 2] };
    Some(clocks.into_iter().filter_map(|now| until.duration_since(now).ok()).min().unwrap_or_default())
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
            assert_eq!(parse(value, Some(server_now()), server_now()), expected.map(Duration::from_secs), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_wait_or_none(text in "\\PC*") {
            let _ = parse(&text, None, server_now());
        }

        #[test]
        fn any_point_of_time_is_counted_from_the_servers_now(ahead in 0u64..1_000_000_000) {
            let until = httpdate::fmt_http_date(server_now() + Duration::from_secs(ahead));
            prop_assert_eq!(parse(&until, Some(server_now()), server_now()), Some(Duration::from_secs(ahead)));
        }
    }

    #[test]
    fn point_of_time_just_before_the_date_is_now_whatever_the_local_clock_shows() {
        let hours = Duration::from_hours(8);
        for ago in [0, 1, 60, 900] {
            let until = httpdate::fmt_http_date(server_now() - Duration::from_secs(ago));
            for local in [server_now() - hours, server_now(), server_now() + hours] {
                assert_eq!(parse(&until, Some(server_now()), local), Some(Duration::ZERO), "{ago} {local:?}");
            }
        }
    }

    #[test]
    fn point_of_time_is_counted_from_the_date_unless_that_is_far_off() {
        let until = httpdate::fmt_http_date(server_now() + Duration::from_mins(1));
        let (minutes, hours) = (Duration::from_mins(9), Duration::from_hours(8));
        for (date, local) in [
            (server_now(), server_now() - minutes),
            (server_now(), server_now() + minutes),
            (server_now(), server_now() - hours),
            (server_now(), server_now() + hours),
            (server_now() - hours, server_now()),
            (server_now() + hours, server_now()),
        ] {
            assert_eq!(parse(&until, Some(date), local), Some(Duration::from_mins(1)), "{date:?} {local:?}");
        }
    }
}
