//! When an account is polled: pure functions of time.

use std::time::Duration;

use koodrive::Credential;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::state::AccountState;
use crate::account::Account;

/// First polls a second, over all accounts: many accounts must not be polled all at once.
const FIRST_POLLS_PER_SECOND: u32 = 100;

/// The first polls of further collectors are later by this, so that the overview is there to be compared with.
const AFTER_OVERVIEW: Duration = Duration::from_secs(1);

/// When the account at `place` among those that are new is first polled: paced, and at its own tick at the latest.
#[must_use]
pub fn first_poll(account: &Account, place: usize, epoch: Instant, now: Instant) -> Instant {
    let between = Duration::from_secs(1) / FIRST_POLLS_PER_SECOND;
    let now = if account.is_overview() { now } else { now + AFTER_OVERVIEW };
    let paced = between.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX));
    (now + paced).min(next_tick(account, epoch, now))
}

/// The account's first tick after `after`. Its ticks are an interval apart, at an offset from the epoch that is the same
/// for an alias at every start, so that many accounts spread evenly. Ticks that were missed are skipped.
#[must_use]
pub fn next_tick(account: &Account, epoch: Instant, after: Instant) -> Instant {
    let interval = account.poll.interval;
    let first = epoch + interval.mul_f64(place(account));
    let Some(late) = after.checked_duration_since(first) else { return first };
    let since_tick = late.as_nanos() % interval.as_nanos().max(1);
    after + interval.saturating_sub(Duration::from_nanos_u128(since_tick))
}

/// A stable place in [0, 1) for an alias. An account's further collectors have places of their own.
fn place(account: &Account) -> f64 {
    let collector = if account.is_overview() { "" } else { account.collector.name };
    let hash = Sha256::new().chain_update(&account.alias).chain_update(collector).finalize();
    let leading = hash.iter().take(4).fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
    f64::from(leading) / 2f64.powi(32)
}

/// The first of these failures in a row do not change the schedule: most pass within a minute.
const FAILURES_WITHOUT_BACK_OFF: u64 = 3;

/// A failing account is still polled every third tick, so that its recovery is soon seen and no rule
/// that counts in intervals takes it for stuck.
const MAX_BACK_OFF_TICKS: u32 = 3;

/// A token is called at the latest this long after the call before.
const TOKEN_CALL_WITHIN: Duration = Duration::from_mins(19);

/// How soon after a poll that did not reach the API the next one is made for a token's sake.
const TOKEN_CALL_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// However long an API asks to be left alone, an account is tried once in this time.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// When an account that was polled is polled again, as known at `now`.
///
/// Failures in a row stretch the interval, and so does an API that asked for a longer pause: both by whole ticks, so
/// that accounts stay spread. A token that still lives is called before it dies.
#[must_use]
pub fn next_poll(account: &Account, state: &AccountState, epoch: Instant, now: Instant) -> Instant {
    let next = scheduled(account, state, epoch, now);
    if next < now { next_tick(account, epoch, now) } else { next }
}

/// When an account that is polled at `due` is polled instead, once a reload has changed its settings at `now`.
///
/// A shorter interval may have been over before: then the next tick of it will do, so that accounts stay spread, but no
/// reload puts off a poll that is overdue.
#[must_use]
pub fn rescheduled(account: &Account, state: &AccountState, epoch: Instant, due: Instant, now: Instant) -> Instant {
    let next = scheduled(account, state, epoch, now);
    if next < now { due.min(next_tick(account, epoch, now)) } else { next }
}

fn scheduled(account: &Account, state: &AccountState, epoch: Instant, now: Instant) -> Instant {
    let interval = account.poll.interval;
    let ended = state.latest.as_ref().map_or(now, |latest| latest.began.monotonic + latest.duration).min(now);
    let doublings =
        u32::try_from(state.failures_in_a_row.saturating_sub(FAILURES_WITHOUT_BACK_OFF)).unwrap_or(u32::MAX);
    let ticks = 1u32.checked_shl(doublings).unwrap_or(u32::MAX).clamp(1, MAX_BACK_OFF_TICKS);
    let scheduled = next_tick(account, epoch, ended) + interval * (ticks - 1);
    let next = match state.retry_after {
        Some(asked) => {
            // A tick at that very moment will do.
            let before = asked.min(MAX_RETRY_AFTER).saturating_sub(Duration::from_nanos(1));
            scheduled.max(next_tick(account, epoch, ended + before))
        }
        None => scheduled,
    };
    // The overview's polls keep the token alive.
    match (&account.api.credential, state.last_answered.filter(|_| account.is_overview())) {
        (Credential::Token { .. }, Some(called)) if ended < called + Credential::TOKEN_LIFETIME => {
            next.min((called + TOKEN_CALL_WITHIN).max(ended + TOKEN_CALL_AGAIN_AFTER.min(interval)))
        }
        _ => next,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{account::PollPolicy, clock::Moment, poll::Attempt};

    const MINUTE: Duration = Duration::from_mins(1);

    fn account(alias: &str, interval: Duration) -> Account {
        let poll = PollPolicy { interval, timeout: interval, max_age: interval * 3 };
        Account { poll, ..Account::example(alias) }
    }

    fn polled(ended: Instant) -> AccountState {
        let wall = std::time::SystemTime::UNIX_EPOCH;
        let began = Moment { monotonic: ended, wall };
        let latest = Attempt { began, duration: Duration::ZERO, failure: None };
        AccountState { latest: Some(latest), ..AccountState::default() }
    }

    #[tokio::test]
    async fn first_poll_is_paced_and_never_later_than_the_accounts_own_tick() {
        let epoch = Instant::now();
        for (place, interval) in [(0, MINUTE * 60), (1, MINUTE * 60), (99, MINUTE * 60), (10_000, MINUTE)] {
            let account = account("production", interval);
            let first = first_poll(&account, place, epoch, epoch);
            let paced = epoch + Duration::from_millis(10) * u32::try_from(place).unwrap();
            assert_eq!(first, paced.min(next_tick(&account, epoch, epoch)));
        }
    }

    #[tokio::test]
    async fn next_tick_fills_each_tenth_of_the_interval_evenly() {
        let (mut tenths, epoch) = ([0; 10], Instant::now());
        for index in 0..10_000 {
            let tick = next_tick(&account(&format!("account-{index}"), MINUTE), epoch, epoch);
            tenths[usize::try_from((tick - epoch).as_secs() / 6).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (900..=1100).contains(count)), "{tenths:?}");
    }

    #[tokio::test]
    async fn next_tick_of_an_alias_does_not_depend_on_the_run() {
        let epoch = Instant::now();
        let offset = next_tick(&account("production", MINUTE), epoch, epoch) - epoch;
        assert_eq!(offset, Duration::from_nanos(40_208_219_052));
    }

    #[tokio::test]
    async fn reload_puts_off_no_poll_that_is_overdue() {
        let epoch = Instant::now();
        for alias in 0..100 {
            let alias = alias.to_string();
            let [long, short] = [4, 2].map(|seconds| account(&alias, Duration::from_secs(seconds)));
            let (state, mut due) = (polled(epoch), next_tick(&long, epoch, epoch));
            let mut reload = epoch;
            for number in 1.. {
                reload += Duration::from_secs(1);
                if due <= reload {
                    break;
                }
                let account = if number % 2 == 0 { &long } else { &short };
                due = rescheduled(account, &state, epoch, due, reload);
                assert!(due <= epoch + Duration::from_secs(8), "{alias} is never polled");
            }
        }
        // One that is due at the moment of the reload is polled.
        let (account, state) = (account("a", MINUTE), polled(epoch));
        let due = next_tick(&account, epoch, epoch);
        assert_eq!(rescheduled(&account, &state, epoch, due, due + Duration::from_millis(1)), due);
    }

    #[tokio::test]
    async fn next_poll_calls_a_token_before_it_dies_and_not_for_its_sake_once_it_has() {
        let (epoch, interval) = (Instant::now(), MINUTE * 5);
        let account = account("a", interval);
        let now = next_tick(&account, epoch, epoch + MINUTE * 60);
        let next = |called: Duration| {
            let mut state = polled(now);
            (state.retry_after, state.last_answered) = (Some(MINUTE * 50), Some(now - called));
            next_poll(&account, &state, epoch, now) - now
        };
        assert_eq!([5, 18, 19].map(|minutes| next(MINUTE * minutes)), [MINUTE * 14, MINUTE, MINUTE]);
        assert_eq!([20, 25].map(|minutes| next(MINUTE * minutes)), [MINUTE * 50, MINUTE * 50]);
        // The overview's polls keep the token alive for the others.
        let usage = Account { collector: &koodrive::usage::USAGE, ..account.clone() };
        let mut state = polled(now);
        (state.retry_after, state.last_answered) = (Some(MINUTE * 50), Some(now - MINUTE * 18));
        assert!(next_poll(&usage, &state, epoch, now) - now >= MINUTE * 50);
    }

    #[tokio::test]
    async fn next_poll_after_a_change_of_the_interval_is_counted_from_the_latest_poll() {
        let epoch = Instant::now();
        let (ended, now) = (epoch + MINUTE * 60, epoch + MINUTE * 70);
        let hourly = account("a", MINUTE * 60);
        assert_eq!(next_poll(&hourly, &polled(ended), epoch, now), next_tick(&hourly, epoch, ended).max(now));
        let often = account("a", MINUTE);
        assert_eq!(next_poll(&often, &polled(ended), epoch, now), next_tick(&often, epoch, now));
        let mut waiting = polled(ended);
        waiting.retry_after = Some(MINUTE * 30);
        assert!(next_poll(&often, &waiting, epoch, now) >= ended + MINUTE * 19, "Retry-After is not forgotten");
    }

    proptest! {
        #[test]
        fn next_tick_is_after_the_given_time_and_at_most_an_interval_away(
            interval in 1u64..10_000_000, late in 0u64..100_000_000_000,
        ) {
            let epoch = Instant::now();
            let (account, late) = (account("a", Duration::from_micros(interval)), Duration::from_micros(late));
            let (interval, next) = (account.poll.interval, next_tick(&account, epoch, epoch + late));
            prop_assert!(next > epoch + late && next <= epoch + late + interval || next - epoch < interval);
            let again = next_tick(&account, epoch, next);
            prop_assert_eq!(again - next, interval);
        }
    }
}
