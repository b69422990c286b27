//! All accounts, each with what is known of it. A reload puts another set of accounts on the board; those that
//! it keeps lose nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;

use super::state::AccountState;
use crate::{account::Account, clock::Moment};

/// A loop that has been silent for this many intervals is stuck.
const SILENT_INTERVALS: u32 = 4;

/// One account and what is known of it.
#[derive(Debug)]
pub struct Slot {
    account: Arc<Account>,
    state: ArcSwap<AccountState>,
    created: Instant,
    /// Milliseconds from `created` to the poll loop's latest sign of life.
    beat: AtomicU64,
    /// The moment of the next poll, once it is known.
    due: ArcSwapOption<Moment>,
    /// The board's count of changes.
    changes: Arc<AtomicU64>,
}

impl Slot {
    /// An account of which this is known, or nothing.
    fn new(account: Arc<Account>, changes: Arc<AtomicU64>, state: Option<Arc<AccountState>>) -> Self {
        Self {
            account,
            state: ArcSwap::new(state.unwrap_or_default()),
            created: Instant::now(),
            beat: AtomicU64::new(0),
            due: ArcSwapOption::empty(),
            changes,
        }
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// What is known of it now.
    #[must_use]
    pub fn state(&self) -> Arc<AccountState> {
        self.state.load_full()
    }

    /// Puts a new state in the old one's place. Only the account's own poll loop may do so.
    pub(super) fn replace(&self, state: Arc<AccountState>) {
        self.state.store(state);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The next poll is due then.
    pub(super) fn set_due(&self, due: Moment) {
        self.due.store(Some(Arc::new(due)));
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// When the next poll is due, once that is known.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        self.due.load().as_deref().copied()
    }

    /// The poll loop's sign of life.
    pub(super) fn beat(&self) {
        let since = self.created.elapsed().as_millis();
        self.beat.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether the poll loop gave a sign of life within the last 4 intervals, whatever the upstream does.
    #[must_use]
    pub fn alive(&self) -> bool {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.created.elapsed().saturating_sub(beat) <= self.account.poll.interval * SILENT_INTERVALS
    }
}

/// All accounts, in the order of their aliases.
#[derive(Debug)]
pub struct Board {
    slots: ArcSwap<Vec<Arc<Slot>>>,
    changes: Arc<AtomicU64>,
    ready: AtomicBool,
}

impl Board {
    /// A board of accounts of which nothing is known yet.
    #[must_use]
    pub fn new<'a>(accounts: impl IntoIterator<Item = &'a Arc<Account>>) -> Self {
        let board = Self { slots: ArcSwap::default(), changes: Arc::default(), ready: AtomicBool::new(false) };
        board.set(accounts);
        board
    }

    /// Puts these accounts on the board. An account that is on it as it is keeps its slot; one that is the same to the
    /// API gets a new one with what is known; of any other one nothing is known yet.
    pub fn set<'a>(&self, accounts: impl IntoIterator<Item = &'a Arc<Account>>) {
        if !self.slots().is_empty() {
            self.polled();
        }
        let slot = |account: &Arc<Account>| match self.slot(&account.alias) {
            Some(old) if old.account() == account => old,
            old => {
                let known = old.filter(|old| account.has_the_numbers_of(old.account())).map(|old| old.state());
                Arc::new(Slot::new(Arc::clone(account), Arc::clone(&self.changes), known))
            }
        };
        let slots = accounts.into_iter().map(slot);
        self.slots.store(Arc::new(slots.collect()));
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The accounts.
    #[must_use]
    pub fn slots(&self) -> Arc<Vec<Arc<Slot>>> {
        self.slots.load_full()
    }

    /// The account of this alias.
    #[must_use]
    pub fn slot(&self, alias: &str) -> Option<Arc<Slot>> {
        let slots = self.slots.load();
        let place = slots.binary_search_by(|slot| slot.account.alias.as_str().cmp(alias)).ok()?;
        slots.get(place).cloned()
    }

    /// How often anything on the board has changed. A state that is read after this number is at least as
    /// new as the number.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether every poll loop is alive.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.slots().iter().all(|slot| slot.alive())
    }

    /// Whether each account has finished a poll, or had once: accounts that a reload adds do not take that back.
    pub fn polled(&self) -> bool {
        if !self.ready.load(Ordering::Relaxed) && self.slots().iter().all(|slot| slot.state.load().latest.is_some()) {
            self.ready.store(true, Ordering::Relaxed);
        }
        self.ready.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{account::Language, clock::WallClock, poll::Attempt};

    fn account(alias: &str, language: &str) -> Arc<Account> {
        Arc::new(Account { language: Language::parse(language).unwrap(), ..Account::example(alias) })
    }

    fn polled_state() -> Arc<AccountState> {
        let latest = Attempt { began: WallClock::system().moment(), duration: Duration::ZERO, failure: None };
        let mut state = AccountState::default();
        (state.latest, state.polls) = (Some(latest), 7);
        Arc::new(state)
    }

    #[tokio::test]
    async fn an_account_that_stays_keeps_its_slot_and_one_that_changes_what_is_known() {
        let board = Board::new(&[account("a", "en-US"), account("b", "en-US")]);
        let [a, b] = ["a", "b"].map(|alias| board.slot(alias).unwrap());
        for slot in [&a, &b] {
            slot.replace(polled_state());
        }
        let changes = board.changes();
        board.set(&[account("a", "en-US"), account("b", "zh-CN"), account("c", "en-US")]);
        assert!(board.changes() > changes);
        assert!(Arc::ptr_eq(&board.slot("a").unwrap(), &a));
        let renewed = board.slot("b").unwrap();
        assert!(!Arc::ptr_eq(&renewed, &b) && renewed.state().polls == 7);
        assert_eq!(board.slot("c").unwrap().state().polls, 0);
        assert!(board.slot("d").is_none());
    }

    #[tokio::test]
    async fn a_board_is_polled_once_each_account_was_and_stays_so() {
        let board = Board::new(&[account("a", "en-US"), account("b", "en-US")]);
        assert!(!board.polled());
        board.slot("a").unwrap().replace(polled_state());
        assert!(!board.polled());
        board.slot("b").unwrap().replace(polled_state());
        board.set(&[account("a", "en-US"), account("b", "en-US"), account("c", "en-US")]);
        assert!(board.polled());
    }

    #[tokio::test]
    async fn the_next_poll_is_known_once_it_is_set() {
        let board = Board::new(&[account("a", "en-US")]);
        let (slot, changes, now) = (board.slot("a").unwrap(), board.changes(), WallClock::system().moment());
        assert!(slot.due().is_none());
        slot.set_due(now);
        assert_eq!((slot.due().map(|due| due.monotonic), board.changes()), (Some(now.monotonic), changes + 1));
    }
}
