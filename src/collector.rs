//! What the exporter shows: the metrics, the health, and the status page.

use std::sync::Arc;

use exporter_toolkit::{Collector, Encoder, Paths, WebConfigState};
use serde_json::{Map, Value, json};

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
    /// Shows `exposition` by the time of `clock`.
    #[must_use]
    pub fn new(exposition: Exposition, clock: WallClock) -> Self {
        Self { exposition, clock, runbooks: None }
    }

    /// Links from the status page to the runbooks below this URL.
    #[must_use]
    pub fn runbooks(mut self, url: Option<String>) -> Self {
        self.runbooks = url;
        self
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

    fn health_details(&self) -> Option<String> {
        let accounts = accounts(self.store(), self.clock.moment());
        Some(format!("{}\n", json!({ "healthy": self.store().alive(), "accounts": accounts })))
    }

    fn landing_page(&self, paths: &Paths, web_config: Option<WebConfigState>) -> String {
        let (own, runbooks, now) = (&*self.exposition.own, self.runbooks.as_deref(), self.clock.moment());
        status_page::render(self.store(), &Shown { own, paths, web_config, runbooks, now })
    }

    fn content_security_policy(&self) -> &'static str {
        status_page::content_security_policy()
    }
}

/// What is known of the accounts, without the words of errors.
fn accounts(store: &AccountStore, now: Moment) -> Value {
    let entries = store.entries();
    let accounts = entries.chunk_by(|a, b| a.account().alias == b.account().alias).filter_map(|same| {
        let (overview, further) = same.split_first()?;
        let mut health = health_of(overview, now);
        let further = further.iter().map(|entry| (entry.account().collector.name.to_owned(), health_of(entry, now)));
        let further: Map<String, Value> = further.collect();
        if let (Some(health), false) = (health.as_object_mut(), further.is_empty()) {
            health.insert("collectors".to_owned(), Value::Object(further));
        }
        Some((overview.account().alias.clone(), health))
    });
    Value::Object(accounts.collect())
}

fn health_of(entry: &AccountEntry, now: Moment) -> Value {
    let state = entry.state();
    let latest = state.latest.as_ref();
    json!({
        "up": latest.map(|_| state.up()),
        "alive": entry.alive(),
        "reason": state.failure().map(|failure| failure.reason().as_str()),
        "failures_in_a_row": state.failures_in_a_row,
        "last_attempt_timestamp_seconds": latest.map(|latest| latest.began.unix_seconds(now)),
        "last_success_timestamp_seconds": state.last_success.map(|success| success.unix_seconds(now)),
    })
}
