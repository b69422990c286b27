//! Which of several exporters polls an account.

use sha2::{Digest, Sha256};

/// One exporter's part of the accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// Part `index`, from 0, of `count` parts.
    ///
    /// # Errors
    /// When there is no such part.
    pub fn new(index: u32, count: u32) -> Result<Self, &'static str> {
        if index < count { Ok(Self { index, count }) } else { Err("must be below shard.count: the first is 0") }
    }

    /// Which part this is, from 0.
    #[must_use]
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many parts there are.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether the account of this alias belongs to this part.
    #[must_use]
    pub fn owns(self, alias: &str) -> bool {
        shard_of(alias, self.count) == self.index
    }
}

/// Jump consistent hash (Lamping and Veach, 2014): one more part takes its fair share of the accounts from
/// the others, and nothing else moves.
fn shard_of(alias: &str, count: u32) -> u32 {
    let mut key = Sha256::digest(alias.as_bytes()).iter().take(8).fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let (mut shard, mut next) = (0, 0u64);
    while next < u64::from(count) {
        shard = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        // (next + 1) * 2^31 / (the key's upper 31 bits + 1), in whole numbers.
        next = ((next + 1) << 31) / ((key >> 33) + 1);
    }
    u32::try_from(shard).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_account_belongs_to_exactly_one_shard(alias in ".*", count in 1u32..200) {
            let owners = (0..count).filter(|index| Shard::new(*index, count).unwrap().owns(&alias)).count();
            prop_assert_eq!(owners, 1);
        }

        #[test]
        fn one_more_shard_moves_accounts_to_itself_alone(alias in ".*", count in 1u32..1000) {
            let (before, after) = (shard_of(&alias, count), shard_of(&alias, count + 1));
            prop_assert!(before == after || after == count);
        }
    }

    #[test]
    fn one_more_shard_moves_its_fair_share() {
        for count in [1, 2, 3, 7, 15] {
            let aliases = (0..10_000).map(|index| format!("account-{index}"));
            let moved = aliases.filter(|alias| shard_of(alias, count) != shard_of(alias, count + 1)).count();
            let fair = 10_000 / (count as usize + 1);
            assert!(moved.abs_diff(fair) < fair / 8 + 20, "{moved} of 10000 moved from {count} shards, {fair} is fair");
        }
    }

    #[test]
    fn the_shard_of_an_alias_does_not_depend_on_the_version() {
        assert_eq!(["production", "finance", "archive"].map(|alias| shard_of(alias, 10)), [2, 0, 7]);
    }
}
