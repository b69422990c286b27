//! What one collector knows of an account, and what a poll makes of it.
//!
//! Each account's state is an immutable value that a poll replaces whole: a reader sees all of one poll
//! or nothing of it, and waits for nobody.

use std::{sync::Arc, time::Duration};

use koodrive::{Answer, CredentialRead, Exchange, PollError, Reason, UnitVerdict};
use tokio::time::Instant;

use crate::clock::Moment;

/// One poll that has come to its end.
#[derive(Debug)]
pub struct Finished {
    /// When it began.
    pub began: Moment,
    /// How long it took, retries included.
    pub duration: Duration,
    /// All its requests but the last, none of which succeeded.
    pub earlier: Vec<Exchange>,
    /// The last request: its result is the poll's.
    pub exchange: Exchange,
}

impl Finished {
    /// Its requests, in order.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.earlier.iter().chain([&self.exchange])
    }
}

/// What one collector knows of an account.
#[derive(Debug, Clone, Default)]
pub struct AccountState {
    /// The latest finished poll; `None` before the first.
    pub latest: Option<Attempt>,
    /// When the last successful poll ended: one whose whole answer was good.
    pub last_success: Option<Moment>,
    /// The latest numbers.
    pub numbers: Option<Numbers>,
    /// All finished polls.
    pub polls: u64,
    /// Failed polls, by [`Reason`] in the order of [`Reason::ALL`].
    pub(super) failures: [u64; Reason::ALL.len()],
    /// Failed polls since the latest good one.
    pub failures_in_a_row: u64,
    /// The local clock minus the server's, in seconds, as last seen.
    pub clock_skew: Option<f64>,
    /// When the latest poll began in which the API answered at all.
    pub last_answered: Option<Instant>,
    /// How long the API asked to be left alone by its latest answer.
    pub retry_after: Option<Duration>,
    /// How often the credential was found to be another one.
    pub credential_rotations: u64,
    /// How often the credential could not be read.
    pub credential_read_failures: u64,
    /// When the log last reported the failure.
    pub last_report: Option<Instant>,
    /// What the latest usage that could be compared says about the units of the overview.
    pub unit_verdicts: Vec<UnitVerdict>,
}

/// The latest finished poll.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When it began.
    pub began: Moment,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed, if it did.
    pub failure: Option<Arc<PollError>>,
}

/// Numbers and when they were asked for.
#[derive(Debug, Clone)]
pub struct Numbers {
    /// The numbers.
    pub answer: Answer,
    asked: Moment,
}

impl Numbers {
    /// When the numbers will be older than `max_age`, unless the wall clock makes them so before.
    #[must_use]
    pub fn stale_from(&self, max_age: Duration) -> Option<Instant> {
        self.asked.monotonic.checked_add(max_age)
    }

    /// How old the numbers are.
    #[must_use]
    pub fn age(&self, now: Moment) -> Duration {
        self.asked.age(now)
    }
}

impl AccountState {
    /// The state after one more poll. An answer with faulty fields gives the good ones and is a failure.
    #[must_use]
    pub fn after(&self, finished: Finished) -> Self {
        let mut state = self.clone();
        state.polls += 1;
        for request in finished.exchanges() {
            if let Some(head) = request.head() {
                state.last_answered = Some(finished.began.monotonic);
                state.clock_skew = head.clock_skew.or(state.clock_skew);
            }
            state.credential_rotations += u64::from(request.credential == CredentialRead::Rotated);
            state.credential_read_failures += u64::from(request.credential == CredentialRead::Failed);
        }
        let Finished { began, duration, exchange, .. } = finished;
        state.retry_after = exchange.retry_after();
        let failure = match exchange.result {
            Ok(answer) => {
                let faults = answer.faults().map(PollError::InvalidData);
                state.numbers = Some(Numbers { answer, asked: began });
                faults
            }
            Err(error) => Some(error),
        };
        if let Some(error) = &failure {
            state.failures_in_a_row += 1;
            for ((reason, _), count) in Reason::ALL.iter().zip(&mut state.failures) {
                *count += u64::from(*reason == error.reason());
            }
        } else {
            state.failures_in_a_row = 0;
            state.last_success = Some(Moment { monotonic: began.monotonic + duration, wall: began.wall + duration });
        }
        state.latest = Some(Attempt { began, duration, failure: failure.map(Arc::new) });
        state
    }

    /// Whether the latest finished poll succeeded; not before the first.
    #[must_use]
    pub fn up(&self) -> bool {
        self.latest.as_ref().is_some_and(|latest| latest.failure.is_none())
    }

    /// Why the latest finished poll failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&Arc<PollError>> {
        self.latest.as_ref()?.failure.as_ref()
    }

    /// The numbers, while they are at most `max_age` old.
    #[must_use]
    pub fn fresh_numbers(&self, max_age: Duration, now: Moment) -> Option<&Numbers> {
        self.numbers.as_ref().filter(|numbers| numbers.age(now) <= max_age)
    }

    /// Failed polls by the name of the reason, in the order of [`Reason::ALL`].
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.into_iter().map(|(_, name)| name).zip(self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallClock;
    use koodrive::{Units, answer, overview::OVERVIEW};

    #[tokio::test]
    async fn a_success_is_when_the_poll_ended_and_a_failure_has_its_words() {
        let (began, duration) = (WallClock::system().moment(), Duration::from_secs(7));
        let after = |state: &AccountState, body: &str| {
            let result = answer::read(200, body.as_bytes(), &OVERVIEW, &Units::default());
            let exchange = Exchange { result, ..Exchange::unfinished(PollError::Panic) };
            state.after(Finished { began, duration, earlier: Vec::new(), exchange })
        };
        let good = r#"{"code":0,"data":{"totalCapacity":3,"totalUsed":2,"totalAllocation":1}}"#;
        let good = after(&AccountState::default(), good);
        let success = good.last_success.unwrap();
        assert_eq!((success.wall, success.monotonic), (began.wall + duration, began.monotonic + duration));
        assert!(good.up() && good.failure().is_none());
        let bad = after(&good, "{}");
        let failure = bad.failure().unwrap();
        assert_eq!((failure.reason(), bad.failures_in_a_row), (Reason::Decode, 1));
        assert_eq!(failure.to_string(), "cannot read the answer: it has no `code`");
        assert_eq!(bad.last_success.unwrap().wall, success.wall);
    }
}
