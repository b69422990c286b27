//! What the exporter shows: the metrics, the health, and the status page.

use std::{collections::BTreeMap, io, sync::Arc};

use exporter_toolkit::{Collector, Encoder, Paths, WebConfigState};
use serde::{Serialize, Serializer};

use crate::{
    clock::{Moment, WallClock},
    metrics::Exposition,
    poll::{AccountEntry, AccountStore},
    status_page::{self, Shown},
};

/// What the exporter shows of its accounts and of itself.
pub struct KooDrive {
    exposition: Exposition,
    clock: WallClock,
    runbooks: Option<String>,
}

impl KooDrive {
    /// Shows `exposition` by the time of `clock`, with links from the status page to the runbooks below a URL.
    #[must_use]
    pub fn new(exposition: Exposition, clock: WallClock, runbooks: Option<String>) -> Self {
        Self { exposition, clock, runbooks }
    }

    fn store(&self) -> &Arc<AccountStore> {
        &self.exposition.store
    }
}

impl Collector for KooDrive {
    fn collect(&self, encoder: &mut Encoder) {
        self.exposition.write(self.clock.moment(), encoder);
    }

    fn changes(&self) -> Option<u64> {
        Some(self.store().changes())
    }

    fn health(&self) -> Result<(), String> {
        match self.store().entries().iter().filter(|entry| !entry.alive()).count() {
            0 => Ok(()),
            silent => Err(format!("{silent} poll loops have been silent for 4 intervals")),
        }
    }

    fn readiness(&self) -> Result<(), String> {
        let unready = || "some accounts have not finished their first poll".to_owned();
        self.store().ready().then_some(()).ok_or_else(unready)
    }

    fn health_details(&self, page: &mut dyn io::Write) -> io::Result<()> {
        write!(page, "{{\"healthy\":{},\"accounts\":", self.store().alive())?;
        serde_json::to_writer(&mut *page, &Accounts { store: self.store(), now: self.clock.moment() })?;
        page.write_all(b"}\n")
    }

    fn landing_page(
        &self,
        page: &mut dyn io::Write,
        paths: &Paths,
        web_config: Option<WebConfigState>,
    ) -> io::Result<()> {
        let (own, runbooks, now) = (&*self.exposition.own, self.runbooks.as_deref(), self.clock.moment());
        status_page::write(page, self.store(), &Shown { own, paths, web_config, runbooks, now })
    }

    fn content_security_policy(&self) -> &'static str {
        status_page::content_security_policy()
    }
}

/// What `/health` shows of each account, without the words of errors.
struct Accounts<'a> {
    store: &'a AccountStore,
    now: Moment,
}

impl Serialize for Accounts<'_> {
    /// One after the other: all of them as one JSON value would take many times the memory of the page.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = self.store.entries();
        let accounts = entries.chunk_by(|a, b| a.account().alias == b.account().alias).filter_map(|same| {
            let (overview, further) = same.split_first()?;
            let of_collector =
                |entry: &Arc<AccountEntry>| (entry.account().collector.name, Health::of(entry, self.now));
            let collectors = further.iter().map(of_collector).collect();
            Some((overview.account().alias.clone(), Health { collectors, ..Health::of(overview, self.now) }))
        });
        serializer.collect_map(accounts)
    }
}

#[derive(Serialize)]
struct Health {
    up: Option<bool>,
    alive: bool,
    reason: Option<&'static str>,
    failures_in_a_row: u64,
    last_attempt_timestamp_seconds: Option<f64>,
    last_success_timestamp_seconds: Option<f64>,
    /// Those beside the overview.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    collectors: BTreeMap<&'static str, Self>,
}

impl Health {
    fn of(entry: &AccountEntry, now: Moment) -> Self {
        let state = entry.state();
        let latest = state.latest.as_ref();
        Self {
            up: latest.map(|_| state.up()),
            alive: entry.alive(),
            reason: state.failure().map(|failure| failure.reason().as_str()),
            failures_in_a_row: state.failures_in_a_row,
            last_attempt_timestamp_seconds: latest.map(|latest| latest.began.unix_seconds(now)),
            last_success_timestamp_seconds: state.last_success.map(|success| success.unix_seconds(now)),
            collectors: BTreeMap::new(),
        }
    }
}
