//! When an account is polled: pure functions of time.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::state::AccountState;
use crate::account::{Account, Credential};

/// Up to this many accounts are first polled within [`PROMPT_START`]: a newcomer sees numbers at once.
const FEW_ACCOUNTS: usize = 10;
const PROMPT_START: Duration = Duration::from_secs(1);

/// How long after the start an account is first polled.
///
/// It is the same for an alias at every start, and many accounts spread evenly over the interval.
#[must_use]
pub fn first_offset(alias: &str, accounts: usize, interval: Duration) -> Duration {
    let spread = if accounts <= FEW_ACCOUNTS { interval.min(PROMPT_START) } else { interval };
    spread.mul_f64(place(alias))
}

/// A stable place in [0, 1) for an alias.
fn place(alias: &str) -> f64 {
    let hash = Sha256::digest(alias.as_bytes());
    let leading = hash.iter().take(4).fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
    f64::from(leading) / 2f64.powi(32)
}

/// The first tick after `now` of the grid that `due` lies on: missed ticks are skipped, not made up for.
#[must_use]
pub fn next_tick(due: Instant, interval: Duration, now: Instant) -> Instant {
    let late = now.saturating_duration_since(due).as_nanos();
    let since_tick = late % interval.as_nanos().max(1);
    let until_next = interval.saturating_sub(Duration::from_nanos_u128(since_tick));
    now.max(due) + until_next
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

/// When an account is polled again, after the poll that was due at `due` and ended just now.
///
/// Failures in a row stretch the interval, and so does an API that asked to be left alone for longer: both by
/// whole ticks, so that accounts stay spread. A token that still lives is called before it dies.
#[must_use]
pub fn next_poll(account: &Account, state: &AccountState, due: Instant, now: Instant) -> Instant {
    let interval = account.poll.interval;
    let doublings =
        u32::try_from(state.failures_in_a_row.saturating_sub(FAILURES_WITHOUT_BACK_OFF)).unwrap_or(u32::MAX);
    let ticks = 1u32.checked_shl(doublings).unwrap_or(u32::MAX).clamp(1, MAX_BACK_OFF_TICKS);
    let scheduled = next_tick(due, interval, now) + interval * (ticks - 1);
    let next = match state.retry_after {
        Some(asked) => {
            // A tick at that very moment will do.
            let before = asked.min(MAX_RETRY_AFTER).saturating_sub(Duration::from_nanos(1));
            scheduled.max(next_tick(due, interval, now + before))
        }
        None => scheduled,
    };
    match (&account.credential, state.last_answered) {
        (Credential::Token { .. }, Some(called)) if now < called + Credential::TOKEN_LIFETIME => {
            next.min((called + TOKEN_CALL_WITHIN).max(now + TOKEN_CALL_AGAIN_AFTER.min(interval)))
        }
        _ => next,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::account::PollPolicy;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn up_to_ten_accounts_start_within_a_second() {
        for accounts in 1..=10 {
            assert!(first_offset("a", accounts, MINUTE) < Duration::from_secs(1));
        }
    }

    #[test]
    fn many_accounts_fill_each_tenth_of_the_interval_evenly() {
        let mut tenths = [0; 10];
        for account in 0..10_000 {
            let offset = first_offset(&format!("account-{account}"), 10_000, MINUTE);
            tenths[usize::try_from(offset.as_secs() / 6).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (900..=1100).contains(count)), "{tenths:?}");
    }

    #[test]
    fn the_offset_of_an_alias_does_not_depend_on_the_run() {
        assert_eq!(first_offset("production", 11, MINUTE), Duration::from_nanos(40_208_219_052));
    }

    #[tokio::test]
    async fn a_token_is_called_before_it_dies_and_not_for_its_sake_once_it_has() {
        let (now, interval) = (Instant::now() + MINUTE * 60, MINUTE * 5);
        let poll = PollPolicy { interval, timeout: interval, max_age: interval * 3 };
        let account = Account { poll, ..Account::example("a") };
        let next = |called: Duration| {
            let mut state = AccountState::default();
            (state.retry_after, state.last_answered) = (Some(MINUTE * 50), Some(now - called));
            next_poll(&account, &state, now, now) - now
        };
        assert_eq!([5, 18, 19].map(|minutes| next(MINUTE * minutes)), [MINUTE * 14, MINUTE, MINUTE]);
        assert_eq!([20, 25].map(|minutes| next(MINUTE * minutes)), [MINUTE * 50, MINUTE * 50]);
    }

    proptest! {
        #[test]
        fn the_next_tick_is_on_the_grid_after_now_and_at_most_an_interval_away(
            interval in 1u64..10_000_000, late in 0u64..100_000_000_000,
        ) {
            let due = Instant::now();
            let (interval, late) = (Duration::from_micros(interval), Duration::from_micros(late));
            let next = next_tick(due, interval, due + late);
            prop_assert!(next > due + late && next <= due + late + interval);
            prop_assert_eq!((next - due).as_nanos() % interval.as_nanos(), 0);
        }

        #[test]
        fn the_first_poll_lies_within_the_interval(alias in ".*", accounts in 1usize..100_000, interval in 1u64..1_000_000) {
            let interval = Duration::from_millis(interval);
            prop_assert!(first_offset(&alias, accounts, interval) < interval);
        }
    }
}
