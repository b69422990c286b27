//! The accounts that are polled, each with what is known of it.
//!
//! A reload replaces the list. The entry of an account that stays the same to the API is kept: its state, schedule and
//! poll in flight go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use koodrive::UnitVerdict;
use tokio::time::Instant;

use super::state::AccountState;
use crate::{account::Account, clock::Moment};

/// A poll loop that has been silent for this many intervals is stuck.
const SILENT_INTERVALS: u32 = 4;

/// The exporter is ready after this time, even if no poll has ended.
const READY_AFTER: Duration = Duration::from_mins(1);

/// One collector of one account and what is known of it.
#[derive(Debug)]
pub struct AccountEntry {
    account: ArcSwap<Account>,
    /// The account's overview, for its further collectors.
    overview: Option<Arc<Self>>,
    state: ArcSwap<AccountState>,
    created: Moment,
    /// Milliseconds from `created` to the poll loop's latest heartbeat.
    beat: AtomicU64,
    due: ArcSwapOption<Moment>,
    /// The store's count of changes.
    changes: Arc<AtomicU64>,
}

impl AccountEntry {
    /// The account as it is configured now.
    #[must_use]
    pub fn account(&self) -> Arc<Account> {
        self.account.load_full()
    }

    /// When the entry was made: its counters began then.
    #[must_use]
    pub fn created(&self) -> Moment {
        self.created
    }

    /// What is known of the account now.
    #[must_use]
    pub fn state(&self) -> Arc<AccountState> {
        self.state.load_full()
    }

    /// What `state`, which is this collector's and new, says about the units of the account's overview.
    #[must_use]
    pub fn unit_verdicts(&self, state: &AccountState, now: Moment) -> Vec<UnitVerdict> {
        let verdicts = || {
            let overview = self.overview.as_ref()?.state();
            let account = self.account.load();
            let overview = overview.fresh_numbers(self.overview.as_ref()?.account.load().poll.max_age, now)?;
            let usage = state.fresh_numbers(account.poll.max_age, now)?;
            Some(koodrive::compare_units(&overview.answer, &usage.answer, &account.api.units))
        };
        verdicts().unwrap_or_default()
    }

    /// When the next poll is due, once that is known.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        self.due.load().as_deref().copied()
    }

    /// Whether the poll loop gave a heartbeat within the last 4 intervals. It does not depend on the upstream.
    #[must_use]
    pub fn alive(&self) -> bool {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.created.monotonic.elapsed().saturating_sub(beat) <= self.account.load().poll.interval * SILENT_INTERVALS
    }

    /// Replaces the settings of an account that has the same numbers. The poll loop gets them by its own channel.
    pub(super) fn reconfigure(&self, account: Arc<Account>) {
        // A shorter interval must not make the loop look stuck before it has seen the change.
        self.beat();
        self.account.store(account);
        self.changed();
    }

    /// Replaces the state. Only the account's own poll loop may do so.
    pub(super) fn replace(&self, state: Arc<AccountState>) {
        self.state.store(state);
        self.changed();
    }

    pub(super) fn set_due(&self, due: Moment) {
        self.due.store(Some(Arc::new(due)));
        self.changed();
    }

    /// The poll loop's heartbeat.
    pub(super) fn beat(&self) {
        let since = self.created.monotonic.elapsed().as_millis();
        self.beat.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// All accounts in the order of their aliases, each with its overview before its further collectors.
#[derive(Debug)]
pub struct AccountStore {
    entries: ArcSwap<Vec<Arc<AccountEntry>>>,
    changes: Arc<AtomicU64>,
    created: Instant,
    ready: AtomicBool,
}

impl Default for AccountStore {
    fn default() -> Self {
        let ready = AtomicBool::new(false);
        Self { entries: ArcSwap::default(), changes: Arc::default(), created: Instant::now(), ready }
    }
}

impl AccountStore {
    /// An entry for an account of which nothing is known, with its overview where it is another collector's. It is shown
    /// once it is [set](Self::set).
    #[must_use]
    pub fn entry(
        &self,
        account: Arc<Account>,
        overview: Option<Arc<AccountEntry>>,
        created: Moment,
    ) -> Arc<AccountEntry> {
        Arc::new(AccountEntry {
            account: ArcSwap::new(account),
            overview,
            state: ArcSwap::default(),
            created,
            beat: AtomicU64::new(0),
            due: ArcSwapOption::empty(),
            changes: Arc::clone(&self.changes),
        })
    }

    /// Replaces the list of entries, which must be in the order of their aliases.
    pub fn set(&self, entries: Vec<Arc<AccountEntry>>) {
        if !self.entries().is_empty() {
            // Accounts that are added later do not take readiness back.
            self.ready();
        }
        self.entries.store(Arc::new(entries));
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The accounts, an entry for each of their collectors.
    #[must_use]
    pub fn entries(&self) -> Arc<Vec<Arc<AccountEntry>>> {
        self.entries.load_full()
    }

    /// How often anything here has changed. A state that is read after this number is at least as new as the number.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether every poll loop is alive.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.entries.load().iter().all(|entry| entry.alive())
    }

    /// Whether all polls succeeded, so far as each account's latest says.
    #[must_use]
    pub fn all_up(&self) -> bool {
        self.entries.load().iter().all(|entry| entry.state().up())
    }

    /// Whether each account has finished a poll, or a minute has passed. It stays so.
    pub fn ready(&self) -> bool {
        let is_polled =
            |entry: &Arc<AccountEntry>| !entry.account.load().is_overview() || entry.state.load().latest.is_some();
        let polled = || self.entries.load().iter().all(is_polled);
        if !self.ready.load(Ordering::Relaxed) && (self.created.elapsed() >= READY_AFTER || polled()) {
            self.ready.store(true, Ordering::Relaxed);
        }
        self.ready.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::WallClock, poll::Attempt};

    fn store(aliases: &[&str]) -> AccountStore {
        let store = AccountStore::default();
        store.set(
            aliases
                .iter()
                .map(|alias| store.entry(Arc::new(Account::example(alias)), None, WallClock::system().moment()))
                .collect(),
        );
        store
    }

    fn polled() -> Arc<AccountState> {
        let latest = Attempt { began: WallClock::system().moment(), duration: Duration::ZERO, failure: None };
        Arc::new(AccountState { latest: Some(latest), ..AccountState::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn store_is_ready_once_each_account_was_polled_and_stays_so() {
        let store = store(&["a", "b"]);
        let entries = store.entries();
        entries[0].replace(polled());
        assert!(!store.ready());
        entries[1].replace(polled());
        store.set(vec![
            Arc::clone(&entries[0]),
            store.entry(Arc::new(Account::example("c")), None, WallClock::system().moment()),
        ]);
        assert!(store.ready());
    }

    #[tokio::test(start_paused = true)]
    async fn store_is_ready_after_a_minute_though_nothing_was_polled() {
        let store = store(&["a"]);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!store.ready());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(store.ready());
    }

    #[tokio::test(start_paused = true)]
    async fn entry_with_a_shorter_interval_is_alive_until_its_loop_had_time_for_a_heartbeat() {
        let store = store(&["a"]);
        let entry = &store.entries()[0];
        tokio::time::advance(Duration::from_mins(3)).await;
        let mut account = Account::example("a");
        account.poll.interval = Duration::from_secs(1);
        entry.reconfigure(Arc::new(account));
        assert!(entry.alive());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!entry.alive());
    }

    #[tokio::test]
    async fn entry_counts_each_change() {
        let store = store(&["a"]);
        let (entry, changes, now) = (&store.entries()[0], store.changes(), WallClock::system().moment());
        assert!(entry.due().is_none());
        entry.set_due(now);
        entry.replace(polled());
        assert_eq!((entry.due().map(|due| due.monotonic), store.changes()), (Some(now.monotonic), changes + 2));
    }
}
