//! The poll loops that run, one for each collector of each account, and a change of the accounts while they do.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use koodrive::{Client, ConnectionKey, HttpClient, ServerClock, TransportError, overview::OVERVIEW};
use tokio::{runtime::Handle, sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    accounts::{AccountEntry, AccountStore},
    limiter::Limiter,
    poller::{Observer, Poller},
    schedule::first_poll,
};
use crate::{account::Account, clock::WallClock};

const USER_AGENT: &str = concat!("koodrive-exporter/", env!("CARGO_PKG_VERSION"));

/// The loops, and what they share. They stop when it is dropped.
pub struct Supervisor {
    /// The accounts, with what is known of them.
    pub store: Arc<AccountStore>,
    limiter: Limiter,
    requests: Handle,
    clock: WallClock,
    observer: Observer,
    epoch: Instant,
    /// Accounts with equal keys share one HTTP client, and so their connections.
    connections: HashMap<ConnectionKey, HttpClient>,
    /// Where there are connections to: accounts of one client and endpoint share them.
    pools: HashSet<(ConnectionKey, String)>,
    /// Files that idle connections may have, over all of them.
    max_idle: usize,
    /// Accounts of one origin share what is known of its clock.
    server_clocks: HashMap<String, Arc<ServerClock>>,
    /// By alias and collector.
    running: HashMap<(String, &'static str), Running>,
}

struct Running {
    entry: Arc<AccountEntry>,
    upstream: watch::Sender<Arc<Client>>,
    _stop: DropGuard,
}

/// What a change of the accounts changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Accounts that are new, or are another user's, at another endpoint or in other units than before.
    pub added: usize,
    /// Accounts that have other settings or collectors and go on.
    pub changed: usize,
    /// Accounts that are gone, or were replaced.
    pub removed: usize,
}

impl Supervisor {
    /// A supervisor without accounts, whose requests are carried out by the runtime of `requests`, and which keeps at most
    /// `max_idle` idle connections.
    #[must_use]
    pub fn new(limiter: Limiter, max_idle: usize, requests: Handle, clock: WallClock, observer: Observer) -> Self {
        let (connections, pools, server_clocks, running) = Default::default();
        let (store, epoch) = (Arc::default(), Instant::now());
        Self { store, limiter, requests, clock, observer, epoch, connections, pools, max_idle, server_clocks, running }
    }

    /// Replaces the accounts. Loops of accounts that are gone stop, after the poll in flight; those of accounts that stay
    /// go on with their schedule and state, under new settings where these have changed.
    ///
    /// # Errors
    /// When an HTTP client can't be made. Then nothing has changed.
    pub fn run(&mut self, accounts: &[Arc<Account>]) -> Result<Change, TransportError> {
        let (change, new) = self.set(accounts)?;
        let now = Instant::now();
        for (place, poller) in new.into_iter().enumerate() {
            let due = first_poll(&poller.entry.account(), place, self.epoch, now);
            tokio::spawn(poller.run(due));
        }
        Ok(change)
    }

    /// Polls each of these accounts once, by each of its collectors.
    ///
    /// # Errors
    /// When an HTTP client can't be made.
    pub async fn poll_once(&mut self, accounts: &[Arc<Account>]) -> Result<(), TransportError> {
        let (_, pollers) = self.set(accounts)?;
        // The overviews first: the usage is compared with them.
        let (overviews, further): (Vec<_>, Vec<_>) =
            pollers.into_iter().partition(|poller| poller.entry.account().is_overview());
        for pollers in [overviews, further] {
            let polls: JoinSet<()> = pollers.into_iter().map(|poller| async move { poller.poll().await }).collect();
            polls.join_all().await;
        }
        Ok(())
    }

    /// Replaces the accounts, and makes a poller for each collector that is new.
    fn set(&mut self, accounts: &[Arc<Account>]) -> Result<(Change, Vec<Poller<Client>>), TransportError> {
        self.connect(accounts)?;
        let (mut new, mut running) = (Vec::new(), HashMap::new());
        let (mut added, mut removed, mut changed) = (HashSet::new(), 0, HashSet::new());
        for account in accounts {
            match self.running.remove(&key(account)) {
                Some(old) if account.has_the_numbers_of(&old.entry.account()) => {
                    if self.reconfigure(&old, account) {
                        changed.insert(account.alias.as_str());
                    }
                    running.insert(key(account), old);
                }
                old => {
                    removed += usize::from(old.is_some() && account.is_overview());
                    if account.is_overview() { &mut added } else { &mut changed }.insert(account.alias.as_str());
                    let overview: Option<&Running> = running.get(&(account.alias.clone(), OVERVIEW.name));
                    let overview = overview.map(|overview| Arc::clone(&overview.entry));
                    let started = self.start(account, overview.filter(|_| !account.is_overview()));
                    new.extend(started.map(|(started, poller)| {
                        running.insert(key(account), started);
                        poller
                    }));
                }
            }
        }
        for (alias, collector) in self.running.keys() {
            if *collector == OVERVIEW.name {
                removed += 1;
            } else {
                changed.insert(alias);
            }
        }
        changed.retain(|alias| !added.contains(alias) && running.contains_key(&((*alias).to_owned(), OVERVIEW.name)));
        let change = Change { added: added.len(), changed: changed.len(), removed };
        let entries = accounts.iter().filter_map(|account| running.get(&key(account)));
        self.store.set(entries.map(|running| Arc::clone(&running.entry)).collect());
        self.running = running;
        Ok((change, new))
    }

    /// Makes the HTTP clients and clocks that are missing, and forgets those that no account needs any more.
    fn connect(&mut self, accounts: &[Arc<Account>]) -> Result<(), TransportError> {
        let (mut connections, mut server_clocks) = (HashMap::new(), HashMap::new());
        let pool = |account: &Arc<Account>| (connection_key(account), account.api.endpoint.host_and_port());
        let pools: HashSet<_> = accounts.iter().map(pool).collect();
        let (max_idle, before) = (self.max_idle_of_each(&pools), self.max_idle_of_each(&self.pools));
        for (key, _) in &pools {
            if let Entry::Vacant(vacant) = connections.entry(key.clone()) {
                let http = self.connections.get(key).cloned();
                vacant.insert(http.map_or_else(|| koodrive::build_http(key, USER_AGENT, max_idle), Ok)?);
            }
        }
        for account in accounts {
            let host = account.api.endpoint.host();
            if !server_clocks.contains_key(host) {
                server_clocks.insert(host.to_owned(), self.server_clocks.get(host).cloned().unwrap_or_default());
            }
        }
        if max_idle != before || !self.pools.is_subset(&pools) {
            for http in connections.values() {
                http.keep_idle(max_idle);
            }
        }
        (self.connections, self.pools, self.server_clocks) = (connections, pools, server_clocks);
        Ok(())
    }

    /// None where there are too few files: then each request makes a connection of its own.
    fn max_idle_of_each(&self, pools: &HashSet<(ConnectionKey, String)>) -> usize {
        self.max_idle / pools.len().max(1)
    }

    /// Whether the account's settings were other ones.
    fn reconfigure(&self, running: &Running, account: &Arc<Account>) -> bool {
        let differs = running.entry.account() != *account;
        if let (true, Some(client)) = (differs, self.client(account)) {
            running.entry.reconfigure(Arc::clone(account));
            running.upstream.send_modify(|upstream| *upstream = Arc::new(client.after(upstream)));
        }
        differs
    }

    fn start(&self, account: &Arc<Account>, overview: Option<Arc<AccountEntry>>) -> Option<(Running, Poller<Client>)> {
        let (entry, stop) =
            (self.store.entry(Arc::clone(account), overview, self.clock.moment()), CancellationToken::new());
        let (sender, upstream) = watch::channel(Arc::new(self.client(account)?));
        let poller = Poller {
            entry: Arc::clone(&entry),
            upstream,
            limiter: self.limiter.clone(),
            requests: self.requests.clone(),
            clock: self.clock.clone(),
            observer: Arc::clone(&self.observer),
            epoch: self.epoch,
            stop: stop.clone(),
        };
        Some((Running { entry, upstream: sender, _stop: stop.drop_guard() }, poller))
    }

    fn client(&self, account: &Account) -> Option<Client> {
        let http = self.connections.get(&connection_key(account))?.clone();
        let server_clock = Arc::clone(self.server_clocks.get(account.api.endpoint.host())?);
        Some(Client::new(http, Arc::clone(&account.api), account.collector, Arc::clone(&self.clock.0), server_clock))
    }
}

fn key(account: &Account) -> (String, &'static str) {
    (account.alias.clone(), account.collector.name)
}

fn connection_key(account: &Account) -> ConnectionKey {
    ConnectionKey { transport: account.api.transport.clone(), timeout: account.poll.timeout }
}
