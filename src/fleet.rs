//! The poll loops that run, one for each account on the board.

use std::{collections::HashMap, sync::Arc};

use tokio_util::task::AbortOnDropHandle;

use crate::{
    account::{Account, Transport},
    clock::WallClock,
    koodrive::{self, Client, ServerClock, TransportError},
    poll::{Board, Lanes, Observer, Poller, Slot},
};

/// The loops, and what they share. They end when it is dropped.
pub struct Fleet {
    /// The accounts, with what is known of them.
    pub board: Arc<Board>,
    lanes: Lanes,
    clock: WallClock,
    observer: Observer,
    /// Accounts with equal transports share one HTTP client, and so their connections.
    transports: HashMap<Transport, reqwest::Client>,
    /// Accounts of one origin share what is known of its clock.
    server_clocks: HashMap<String, Arc<ServerClock>>,
    loops: HashMap<String, (Arc<Slot>, AbortOnDropHandle<()>)>,
}

/// What a change of the accounts came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Accounts that are new, or changed.
    pub started: usize,
    /// Accounts that are gone, or changed.
    pub stopped: usize,
}

impl Fleet {
    /// A fleet without accounts.
    #[must_use]
    pub fn new(lanes: Lanes, clock: WallClock, observer: Observer) -> Self {
        let (transports, server_clocks, loops) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { board: Arc::new(Board::new([])), lanes, clock, observer, transports, server_clocks, loops }
    }

    /// Puts these accounts on the board, and makes a poller for each that is new there.
    ///
    /// # Errors
    /// When an HTTP client can't be made. Then nothing has changed.
    pub fn set(&mut self, accounts: &[Arc<Account>]) -> Result<Vec<Poller<Client>>, TransportError> {
        let mut transports = HashMap::new();
        for Account { transport, .. } in accounts.iter().map(AsRef::as_ref) {
            if !transports.contains_key(transport) {
                let http = self.transports.get(transport).cloned();
                transports.insert(transport.clone(), http.map_or_else(|| koodrive::build_http(transport), Ok)?);
            }
        }
        self.transports = transports;
        self.board.set(accounts);
        let slots = self.board.slots();
        let is_new = |slot: &&Arc<Slot>| {
            let running = self.loops.get(&slot.account().alias);
            running.is_none_or(|(running, _)| !Arc::ptr_eq(running, slot))
        };
        let new: Vec<_> = slots.iter().filter(is_new).cloned().collect();
        Ok(new.into_iter().filter_map(|slot| self.poller(&slot)).collect())
    }

    /// Puts these accounts on the board, ends the loops of those that are gone, and starts those of new ones. The
    /// loops of accounts that stay as they are go on.
    ///
    /// # Errors
    /// When an HTTP client can't be made. Then nothing has changed.
    pub fn run(&mut self, accounts: &[Arc<Account>]) -> Result<Change, TransportError> {
        let before = self.loops.len();
        let pollers = self.set(accounts)?;
        let board = Arc::clone(&self.board);
        self.loops.retain(|alias, (slot, _)| board.slot(alias).is_some_and(|now| Arc::ptr_eq(&now, slot)));
        let change = Change { started: pollers.len(), stopped: before - self.loops.len() };
        for poller in pollers {
            let slot = Arc::clone(&poller.slot);
            let running = AbortOnDropHandle::new(tokio::spawn(poller.run(accounts.len())));
            self.loops.insert(slot.account().alias.clone(), (slot, running));
        }
        Ok(change)
    }

    fn poller(&mut self, slot: &Arc<Slot>) -> Option<Poller<Client>> {
        let account = slot.account();
        let http = self.transports.get(&account.transport)?.clone();
        let server_clock = self.server_clocks.entry(account.endpoint.host().to_owned()).or_default();
        let client = Client::new(http, Arc::clone(account), self.clock.clone(), Arc::clone(server_clock));
        Some(Poller {
            slot: Arc::clone(slot),
            upstream: Arc::new(client),
            lanes: self.lanes.clone(),
            clock: self.clock.clone(),
            observer: Arc::clone(&self.observer),
        })
    }
}
