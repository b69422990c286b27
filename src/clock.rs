//! The two clocks. The wall clock is a value that is passed in, so that tests can set it.
//!
//! Schedules and ages use `tokio::time`, which no one can step; the wall clock serves for what other
//! machines and people read: `X-Date`, timestamps in metrics, the status page.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::SignedDuration;
use koodrive::Clock;
use tokio::time::Instant;

/// The time of day, as a function returns it.
#[derive(Clone)]
pub struct WallClock(pub Clock);

impl WallClock {
    /// The system's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "everybody else gets the time from here")]
    pub fn system() -> Self {
        Self(Arc::new(SystemTime::now))
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }

    /// This moment on both clocks.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.moment_at(Instant::now())
    }

    /// A moment to come, as far as it is known now, on both clocks.
    #[must_use]
    pub fn moment_at(&self, monotonic: Instant) -> Moment {
        Moment { monotonic, wall: self.now() + monotonic.saturating_duration_since(Instant::now()) }
    }
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The clock that nobody can step; it may stand still while the machine sleeps.
    pub monotonic: Instant,
    /// The time of day.
    pub wall: SystemTime,
}

impl Moment {
    /// How long ago this was at `now`: the larger of both clocks' views, so that neither a sleep of the
    /// machine nor a wall clock set back makes it look recent.
    #[must_use]
    pub fn age(self, now: Self) -> Duration {
        let monotonic = now.monotonic.saturating_duration_since(self.monotonic);
        monotonic.max(now.wall.duration_since(self.wall).unwrap_or_default())
    }

    /// This moment in Unix time, as seen at `now`.
    ///
    /// It is what the wall clock showed then. If the wall clock has been set back since, which makes
    /// that a moment of another time scale, it is counted back from `now`.
    #[must_use]
    pub fn unix_seconds(self, now: Self) -> f64 {
        let age = now.monotonic.saturating_duration_since(self.monotonic);
        let shown = now.wall.duration_since(self.wall).unwrap_or_default();
        // Clocks that are slewed differ by less.
        let set_back = shown + age / 100 + Duration::from_secs(1) < age;
        let recorded = unix_seconds(self.wall);
        if set_back { unix_seconds(now.wall) - age.as_secs_f64() } else { recorded }
    }

    /// When this moment to come is, in Unix time: by the wall clock of `now`, which may have been set since.
    #[must_use]
    pub fn expected_unix_seconds(self, now: Self) -> f64 {
        let left = seconds_between(now.monotonic, self.monotonic);
        let (expected, recorded) = (unix_seconds(now.wall) + left, unix_seconds(self.wall));
        // The same number as long as the clock is at most slewed.
        if (expected - recorded).abs() > 1.0 + left.abs() / 100.0 { expected } else { recorded }
    }
}

fn seconds_between(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() - from.saturating_duration_since(to).as_secs_f64()
}

/// Seconds since 1970, negative before: the form of every timestamp in the exposition.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> f64 {
    SignedDuration::system_until(UNIX_EPOCH, time).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moment_to_come_is_shown_by_the_wall_clock_as_it_is_set_now() {
        let start = WallClock::system().moment();
        let after = |real: u64, shown: u64| Moment {
            monotonic: start.monotonic + Duration::from_secs(real),
            wall: start.wall + Duration::from_secs(shown),
        };
        let (due, begin) = (after(600, 600), unix_seconds(start.wall));
        let expected = |now: Moment| (due.expected_unix_seconds(now) - begin).round();
        assert!(due.expected_unix_seconds(after(300, 301)).to_bits() == unix_seconds(due.wall).to_bits(), "slewed");
        assert_eq!(expected(after(300, 3900)), 4200.0);
        assert_eq!(expected(Moment { wall: start.wall - Duration::from_hours(1), ..after(300, 0) }), -3300.0);
        assert_eq!(expected(after(610, 4210)), 4200.0, "just past");
    }
}
