//! When an account is polled: pure functions of time.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
