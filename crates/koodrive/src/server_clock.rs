//! One origin's clock, as far as accepted requests have proved it.
//!
//! `X-Date` must not be later than the server's now, nor 15 minutes older. A request that is accepted proves the clock
//! by which it was dated. After a refusal, other clocks are tried: the one that the refusal's `Date` header shows, the last
//! other one by which a request was accepted, and this host's. A wrong `Date` header costs a request, or a poll where no time
//! is left for another, and never an account that works.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use crate::lock;

/// Returns the host's time of day.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// `Date` has whole seconds, and answers take time: smaller offsets are noise, which the back-dating of `X-Date` covers.
const TOLERANCE: Duration = Duration::from_secs(3);

/// The years from 2020 to 2099, in Unix seconds. A `Date` header outside them shows no clock that is worth following.
const PLAUSIBLE: Range<u64> = 1_577_836_800..4_102_444_800;

/// `X-Date` may be 15 minutes old and must not be later than the server's now, so it is set back by more than the usual
/// difference between two synchronised clocks.
const BACK_DATE: Duration = Duration::from_secs(5);

/// The time that a `Date` header shows, if it is a plausible one.
pub(super) fn plausible_date(header: &str) -> Option<SystemTime> {
    let date = httpdate::parse_http_date(header).ok()?;
    let seconds = date.duration_since(UNIX_EPOCH).ok()?.as_secs();
    PLAUSIBLE.contains(&seconds).then_some(date)
}

/// Milliseconds that are added to the local clock to date a request; 0 is the local clock itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Correction(i64);

impl Correction {
    /// What the difference between the local clock and a `Date` header asks for, in seconds; nothing within the tolerance.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of a float saturates, and HTTP dates end with year 9999"
    )]
    fn of_skew(skew: f64) -> Self {
        if skew.abs() > TOLERANCE.as_secs_f64() { Self((-skew * 1000.0) as i64) } else { Self(0) }
    }

    fn differs_from(self, other: Self) -> bool {
        Duration::from_millis(self.0.abs_diff(other.0)) > TOLERANCE
    }

    /// The `X-Date` header of a request that is sent at `local`: `yyyyMMdd'T'HHmmss'Z'`, in UTC. A corrected time that
    /// this form cannot hold is passed over for the local one.
    pub(super) fn x_date(self, local: SystemTime) -> Option<String> {
        let magnitude = Duration::from_millis(self.0.unsigned_abs());
        let corrected = if self.0 < 0 { local.checked_sub(magnitude) } else { local.checked_add(magnitude) };
        let format = |time: SystemTime| {
            let time = Timestamp::try_from(time.checked_sub(BACK_DATE)?).ok()?;
            let text = time.strftime("%Y%m%dT%H%M%SZ").to_string();
            (text.len() == "20251103T070140Z".len()).then_some(text)
        };
        corrected.and_then(format).or_else(|| format(local))
    }
}

/// One origin's clock, shared by all accounts there.
#[derive(Debug, Default)]
pub struct ServerClock(Mutex<Known>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// By how much requests are corrected.
    correction: Correction,
    /// The last correction by which a request was accepted, though answers may not have supported it since: one of them may
    /// have a wrong `Date`.
    proven: Correction,
    /// Whether the API refused the local clock and then accepted the correction again. Then no `Date` header drops it.
    is_confirmed: bool,
}

impl ServerClock {
    /// By how much requests are corrected.
    pub(super) fn correction(&self) -> Correction {
        lock(&self.0).correction
    }

    /// A request that was dated with this correction was accepted, and the answer's `Date` header showed this skew. A
    /// correction that the answer does not support is dropped, unless it was accepted before and other clocks have been
    /// refused since.
    pub(super) fn accepted(&self, correction: Correction, skew: Option<f64>, after_refusal: bool, endpoint: &str) {
        let mut known = lock(&self.0);
        let before = known.correction;
        let is_proven = !correction.differs_from(known.proven);
        known.is_confirmed = is_proven && (after_refusal || known.is_confirmed && !correction.differs_from(before));
        if correction != Correction(0) {
            known.proven = correction;
        }
        let is_supported = skew.is_some_and(|skew| !Correction::of_skew(skew).differs_from(correction));
        known.correction = if is_supported || known.is_confirmed { correction } else { Correction(0) };
        let correction = known.correction;
        drop(known);
        if before.differs_from(correction) {
            let correction_seconds = correction.0 / 1000;
            if correction.0 == 0 {
                info!(endpoint, "clocks of host and API agree again");
            } else {
                warn!(endpoint, correction_seconds, "clocks of host and API differ, correcting X-Date");
            }
        }
    }

    /// The next clock for a request that was refused by those that were `tried`, with the skew that the `Date` header of the
    /// first refusal showed.
    pub(super) fn other(&self, tried: &[Correction], skew: Option<f64>) -> Option<Correction> {
        let others = [skew.map_or(Correction(0), Correction::of_skew), lock(&self.0).proven, Correction(0)];
        others.into_iter().find(|other| tried.iter().all(|tried| other.differs_from(*tried)))
    }
}

/// How many seconds `later` is after `earlier`; negative where it is before.
pub(super) fn seconds_between(earlier: SystemTime, later: SystemTime) -> f64 {
    SignedDuration::system_until(earlier, later).map_or(0.0, |between| between.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn x_date_has_the_vendors_form_and_is_five_seconds_old() {
        let local = UNIX_EPOCH + Duration::from_secs(1_762_153_305);
        assert_eq!(Correction(0).x_date(local).unwrap(), "20251103T070140Z");
        assert_eq!(Correction(-60_000).x_date(local).unwrap(), "20251103T070040Z");
    }

    #[test]
    fn x_date_that_cannot_be_written_is_the_local_one() {
        let local = UNIX_EPOCH + Duration::from_secs(1_762_153_305);
        for correction in [i64::MAX, i64::MIN, 300_000_000_000_000] {
            assert_eq!(Correction(correction).x_date(local), Correction(0).x_date(local), "{correction}");
        }
    }

    #[test]
    fn date_is_plausible_from_2020_to_2099() {
        for (header, plausible) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", false),
            ("Tue, 31 Dec 2019 23:59:59 GMT", false),
            ("Wed, 01 Jan 2020 00:00:00 GMT", true),
            ("Thu, 31 Dec 2099 23:59:59 GMT", true),
            ("Fri, 01 Jan 2100 00:00:00 GMT", false),
            ("Fri, 31 Dec 9999 23:59:59 GMT", false),
            ("yesterday", false),
        ] {
            assert_eq!(plausible_date(header).is_some(), plausible, "{header}");
        }
    }

    #[test]
    fn clock_follows_an_accepted_request_and_nothing_else() {
        let clock = ServerClock::default();
        let eight_hours = clock.other(&[clock.correction()], Some(28_800.0)).unwrap();
        assert_eq!((eight_hours, clock.correction()), (Correction(-28_800_000), Correction(0)));
        clock.accepted(eight_hours, Some(28_799.0), false, "e");
        assert_eq!(clock.correction(), eight_hours);
        clock.accepted(Correction(0), Some(28_800.0), false, "e");
        assert_eq!(clock.correction(), Correction(0));
    }

    #[test]
    fn clock_drops_a_correction_that_an_answer_does_not_support() {
        for skew in [None, Some(0.0), Some(-28_800.0)] {
            let clock = ServerClock::default();
            clock.accepted(Correction(-28_800_000), Some(28_800.0), false, "e");
            clock.accepted(Correction(-28_800_000), skew, false, "e");
            assert_eq!(clock.correction(), Correction(0), "{skew:?}");
        }
    }

    #[test]
    fn clock_keeps_a_correction_that_is_accepted_again_after_a_refusal_whatever_answers_show() {
        let (clock, correction) = (ServerClock::default(), Correction(7_200_000));
        let accepted = |correction, skew, after_refusal| {
            clock.accepted(correction, skew, after_refusal, "e");
            clock.correction()
        };
        assert_eq!(accepted(correction, Some(-7200.0), true), correction);
        assert_eq!(accepted(correction, None, false), Correction(0));
        assert_eq!(accepted(correction, None, true), correction);
        for skew in [None, Some(-86_400.0), Some(0.0)] {
            assert_eq!(accepted(correction, skew, false), correction, "{skew:?}");
        }
        // The host's clock was set.
        assert_eq!(accepted(Correction(0), Some(0.0), true), Correction(0));
        assert_eq!(accepted(correction, None, false), Correction(0));
    }

    #[test]
    fn other_clock_is_the_one_of_the_date_header_or_the_local_one() {
        let (clock, corrected) = (ServerClock::default(), Correction(600_000));
        for (tried, skew, other) in [
            (Correction(0), Some(2.9), None),
            (Correction(0), Some(-600.0), Some(corrected)),
            (corrected, Some(-601.0), Some(Correction(0))),
            (corrected, Some(0.0), Some(Correction(0))),
            (corrected, None, Some(Correction(0))),
            (Correction(0), None, None),
        ] {
            assert_eq!(clock.other(&[tried], skew), other, "{tried:?} {skew:?}");
        }
    }

    #[test]
    fn other_clock_is_at_last_the_one_that_was_accepted_before() {
        let (clock, accepted, wrong) = (ServerClock::default(), Correction(7_200_000), Correction(86_400_000));
        clock.accepted(accepted, Some(-7200.0), false, "e");
        clock.accepted(accepted, Some(-86_400.0), false, "e");
        // So is the local one by an account of another kind, whose requests need no date.
        clock.accepted(Correction(0), None, false, "e");
        assert_eq!(clock.correction(), Correction(0));
        assert_eq!(clock.other(&[Correction(0)], None), Some(accepted));
        assert_eq!(clock.other(&[Correction(0)], Some(-86_400.0)), Some(wrong));
        assert_eq!(clock.other(&[Correction(0), wrong], Some(-86_400.0)), Some(accepted));
        assert_eq!(clock.other(&[Correction(0), wrong, accepted], Some(-86_400.0)), None);
    }

    proptest! {
        #[test]
        fn x_date_follows_any_date_header_to_the_tolerance(local in 0u64..253_402_300_000, server in 10u64..253_402_300_000) {
            let skew = i64::try_from(local).unwrap() - i64::try_from(server).unwrap();
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let skew = skew as f64;
            let local_time = UNIX_EPOCH + Duration::from_secs(local);
            let x_date = Correction::of_skew(skew).x_date(local_time).unwrap();
            let within = |seconds| Correction(0).x_date(UNIX_EPOCH + Duration::from_secs(seconds)).as_ref() == Some(&x_date);
            prop_assert!((server - 3..=server + 3).any(within), "{x_date}");
        }
    }
}
