//! One origin's clock, as the `Date` headers of its answers show it.
//!
//! `X-Date` must not be later than the server's now, nor 15 minutes older. On a host whose clock is off,
//! it therefore follows the server's clock.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::{Duration, SystemTime},
};

use tracing::{info, warn};

/// `Date` has whole seconds, and answers take time: smaller offsets are noise, which the back-dating of
/// `X-Date` covers.
const TOLERANCE: Duration = Duration::from_secs(3);

/// A clock that is followed is followed until the offset is below this, in seconds: an offset near the
/// tolerance would otherwise be found on both sides of it in turn.
const AGREEMENT: f64 = 1.5;

/// One origin's clock, shared by all accounts there. It starts out as right as this host's.
#[derive(Debug, Default)]
pub struct ServerClock {
    /// Milliseconds to add to the local clock; 0 within the tolerance.
    correction: AtomicI64,
    following: AtomicBool,
}

impl ServerClock {
    /// The server's time, where it is known to differ from `local`.
    pub(super) fn now(&self, local: SystemTime) -> SystemTime {
        let correction = self.correction();
        let magnitude = Duration::from_millis(correction.unsigned_abs());
        let corrected = if correction < 0 { local.checked_sub(magnitude) } else { local.checked_add(magnitude) };
        corrected.unwrap_or(local)
    }

    /// In milliseconds.
    pub(super) fn correction(&self) -> i64 {
        self.correction.load(Ordering::Relaxed)
    }

    /// Whether a request that was made with `correction` would bear another date now.
    pub(super) fn differs_from(&self, correction: i64) -> bool {
        Duration::from_millis(self.correction().abs_diff(correction)) > TOLERANCE
    }

    /// Takes an answer's `Date`. The local clock minus the server's, in seconds.
    pub(super) fn observe(&self, local: SystemTime, server: SystemTime, endpoint: &str) -> f64 {
        let skew = match local.duration_since(server) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        };
        let before = self.following.load(Ordering::Relaxed);
        let off = skew.abs() > if before { AGREEMENT } else { TOLERANCE.as_secs_f64() };
        #[expect(clippy::cast_possible_truncation, reason = "HTTP dates end with the year 9999")]
        let correction = if off { (-skew * 1000.0) as i64 } else { 0 };
        self.correction.store(correction, Ordering::Relaxed);
        let before = self.following.swap(off, Ordering::Relaxed);
        if off && !before {
            warn!(
                endpoint,
                skew, "the clocks of this host and the API differ: X-Date follows that of the API from now on"
            );
        } else if before && !off {
            info!(endpoint, skew, "the clocks of this host and the API agree again");
        }
        skew
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_small_offset_is_noise_and_a_large_one_is_followed() {
        let clock = ServerClock::default();
        assert_eq!(clock.observe(at(1000), at(997), "e"), 3.0);
        assert_eq!(clock.now(at(1000)), at(1000));
        assert_eq!(clock.observe(at(1000), at(996), "e"), 4.0);
        assert_eq!(clock.now(at(1000)), at(996));
        assert!(clock.differs_from(0) && !clock.differs_from(-4000) && !clock.differs_from(-1000));
        assert_eq!(clock.observe(at(1000), at(8200), "e"), -7200.0);
        assert_eq!(clock.now(at(1000)), at(8200));
        clock.observe(at(8200), at(8200), "e");
        assert_eq!(clock.now(at(1000)), at(1000));
    }

    #[test]
    fn an_offset_near_the_tolerance_is_followed_steadily() {
        let clock = ServerClock::default();
        clock.observe(at(1004), at(1000), "e");
        for skew in [2, 3, 2, 4, 2] {
            clock.observe(at(1000 + skew), at(1000), "e");
            assert!(clock.following.load(Ordering::Relaxed));
        }
        clock.observe(at(1001), at(1000), "e");
        assert!(!clock.following.load(Ordering::Relaxed));
    }

    proptest! {
        #[test]
        fn a_followed_clock_tells_the_servers_time_to_the_millisecond(local in 0u64..253_402_300_799, server in 0u64..253_402_300_799) {
            let clock = ServerClock::default();
            clock.observe(at(local), at(server), "e");
            let told = clock.now(at(local));
            let error = told.duration_since(at(server)).unwrap_or_else(|early| early.duration());
            prop_assert!(error <= TOLERANCE);
        }
    }
}
