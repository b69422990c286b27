//! The configuration read anew while the exporter runs: on SIGHUP, on a request, and on a change of its file.
//!
//! A configuration is validated as a whole and put in force as a whole; a bad one changes nothing.

use std::{sync::Arc, time::Duration};

use exporter_toolkit::{ReloadReply, files::Followed};
use tokio::{signal::unix::Signal, sync::mpsc, time::timeout};
use tracing::{error, info, warn};

use crate::{
    clock::{WallClock, unix_seconds},
    config::{Config, Sources},
    metrics::OwnMetrics,
    poll::{Change, Supervisor},
    systemd::Systemd,
};

/// A configuration on a network mount may never come.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What a reload works on.
pub struct Reloader {
    /// Read anew each time.
    pub sources: Sources,
    /// The configuration that the exporter was started with.
    pub started: Config,
    /// Whose accounts change.
    pub supervisor: Supervisor,
    /// Where reloads are counted.
    pub own: Arc<OwnMetrics>,
    /// The time of day.
    pub clock: WallClock,
    /// The content of the configuration file, where its changes are to be followed.
    pub followed: Option<Followed<Vec<u8>>>,
    /// Where reloads are reported.
    pub systemd: Systemd,
}

impl Reloader {
    /// Reloads on `hangup` and on `requests`, and where it is configured on a change of the file; for ever.
    pub async fn run(mut self, mut hangup: Signal, mut requests: mpsc::Receiver<ReloadReply>) {
        loop {
            tokio::select! {
                () = received(&mut hangup) => drop(self.reload("SIGHUP").await),
                () = changed(&mut self.followed) => drop(self.reload("the file has changed").await),
                Some(reply) = requests.recv() => drop(reply.send(self.reload("a request").await)),
            }
        }
    }

    async fn reload(&mut self, cause: &str) -> Result<String, String> {
        self.systemd.reloading();
        let loaded = self.load().await;
        match &loaded {
            Ok(changes) => {
                self.own.config_loaded(unix_seconds(self.clock.now()));
                info!(cause, changes, "configuration reloaded");
            }
            Err(problems) => {
                self.own.config_failed();
                error!(cause, problems, "configuration reload failed, keeping the previous configuration");
            }
        }
        self.systemd.ready();
        loaded
    }

    /// Applies the configuration, and returns what that changed.
    async fn load(&mut self) -> Result<String, String> {
        let sources = self.sources.clone();
        let loading = tokio::task::spawn_blocking(move || (sources.file_content(), Config::load(&sources)));
        let loaded = timeout(LOAD_TIMEOUT, loading).await.map_err(|_| "the file system does not answer".to_owned())?;
        let (content, config) = loaded.map_err(|error| error.to_string())?;
        if let Some(followed) = &mut self.followed {
            followed.set_known(content);
        }
        let config = config.map_err(|problems| problems.to_string())?;
        let accounts = config.accounts_of(self.started.shard);
        let change = self.supervisor.run(&accounts).map_err(|error| error.to_string())?;
        let Change { added, changed, removed } = change;
        let changes = format!("{} accounts: {added} added, {changed} changed, {removed} removed", accounts.len());
        let fixed = config.fixed_differences(&self.started);
        if fixed.is_empty() {
            return Ok(changes);
        }
        let keys = fixed.join(", ");
        warn!(keys, "changes need a restart");
        Ok(format!("{changes}; these keys need a restart: {keys}"))
    }
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// The content of the sources' file, where they have one.
#[must_use]
pub fn followed(sources: &Sources) -> Option<Followed<Vec<u8>>> {
    sources.file()?;
    let (known, sources) = (sources.file_content(), sources.clone());
    Some(Followed::new(known, move || sources.file_content()))
}

/// Waits for the file's next change, or for ever.
async fn changed(followed: &mut Option<Followed<Vec<u8>>>) {
    let Some(followed) = followed else { return std::future::pending().await };
    while followed.changed().await.is_err() {}
}
