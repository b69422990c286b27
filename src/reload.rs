//! The configuration is read again while the exporter runs: on SIGHUP, on a request, and on a change of its file.
//!
//! A configuration is validated and applied as a whole; an invalid one changes nothing.

use std::{sync::Arc, time::Duration};

use exporter_toolkit::{
    ReloadReply,
    files::{Followed, Unread},
};
use tokio::{
    signal::unix::Signal,
    sync::{Mutex, mpsc},
    task::spawn_blocking,
    time::timeout,
};
use tracing::{error, info, warn};

use crate::{
    account,
    clock::{WallClock, unix_seconds},
    config::{Config, Sources},
    metrics::OwnMetrics,
    poll::{Change, Supervisor},
    roots::{self, Roots},
    systemd::Systemd,
};

/// A configuration on a network mount may never come.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How many requests for a reload may wait for it.
pub const MAX_REQUESTS: usize = 1024;

/// What a reload works on.
pub struct Reloader {
    /// Read each time.
    pub sources: Sources,
    /// The configuration that the exporter was started with.
    pub started: Config,
    /// The latest one whose accounts are polled.
    pub running: Config,
    /// Whose accounts change.
    pub supervisor: Supervisor,
    /// Where reloads are counted.
    pub own: Arc<OwnMetrics>,
    /// The time of day.
    pub clock: WallClock,
    /// The content of the configuration file, where its changes are to be followed.
    pub followed: Option<Followed<Vec<u8>>>,
    /// Whether the latest reading of the configuration itself succeeded.
    pub configured: bool,
    /// The authorities' files, whose changes are always followed.
    pub roots: Option<Followed<Roots>>,
    /// Where reloads are reported.
    pub systemd: Systemd,
    /// Held while the files are read: where one reading hangs, another would as well, and would cost another thread.
    pub reading: Arc<Mutex<()>>,
}

impl Reloader {
    /// Reloads on `hangup` and on `requests`, and where it is configured on a change of the file; for ever.
    pub async fn run(mut self, mut hangup: Signal, mut requests: mpsc::Receiver<ReloadReply>) {
        loop {
            let mut replies = Vec::new();
            tokio::select! {
                Some(()) = hangup.recv() => drop(self.reload("SIGHUP").await),
                _ = changed(&mut self.followed) => drop(self.reload("file change").await),
                roots = changed(&mut self.roots) => self.trust(roots),
                1.. = requests.recv_many(&mut replies, MAX_REQUESTS) => {
                    // One reload is for all that wait: a client that has gone would cost one of its own otherwise.
                    let result = self.reload("request").await;
                    for reply in replies {
                        drop(reply.send(result.clone()));
                    }
                }
            }
        }
    }

    fn trust(&mut self, roots: Result<Roots, Unread>) {
        match roots::apply(&mut self.supervisor, roots) {
            Ok(accounts) => {
                if self.configured {
                    self.own.config_is_good_again();
                }
                info!(accounts, "authorities reloaded");
            }
            Err(problem) => {
                self.own.config_failed();
                error!(problem, "reload of authorities failed, keeping the previous ones");
            }
        }
    }

    async fn reload(&mut self, cause: &str) -> Result<String, String> {
        self.systemd.reloading();
        let loaded = self.load().await;
        self.configured = loaded.is_ok();
        match &loaded {
            Ok((changes, keys)) => {
                self.own.config_loaded(unix_seconds(self.clock.now()));
                let keys = Some(keys).filter(|keys| !keys.is_empty());
                info!(cause, changes, keys, "configuration reloaded");
            }
            Err(problems) => {
                self.own.config_failed();
                error!(cause, problems, "configuration reload failed, keeping the previous configuration");
            }
        }
        self.systemd.ready();
        loaded.map(|(changes, _)| changes)
    }

    /// Applies the configuration, and returns what that changed: in numbers, and by key.
    async fn load(&mut self) -> Result<(String, String), String> {
        let (sources, running) = (self.sources.clone(), self.running.clone());
        let load = async {
            let reading = Arc::clone(&self.reading).lock_owned().await;
            let load = move || {
                let _reading = reading;
                let (content, config) = (sources.file_content(), Config::load(&sources));
                // To show a secret's file, the file system is asked whether it is there.
                (content, config.map(|config| (config.account_differences(&running), config)))
            };
            spawn_blocking(load).await
        };
        let loaded = timeout(LOAD_TIMEOUT, load).await.map_err(|_| "the file system does not answer".to_owned())?;
        let (content, config) = loaded.map_err(|error| error.to_string())?;
        if let Some(followed) = &mut self.followed {
            followed.set_known(content);
        }
        let (keys, config) = config.map_err(|problems| problems.to_string())?;
        let accounts = config.accounts_of(self.started.shard);
        let change = self.supervisor.run(&accounts).map_err(|error| error.to_string())?;
        self.roots = roots::followed(&accounts);
        let Change { added, changed, removed } = change;
        let accounts = account::count(&accounts);
        let changes = format!("{accounts} accounts: {added} added, {changed} changed, {removed} removed");
        let fixed = config.fixed_differences(&self.started).join(", ");
        self.running = config;
        if fixed.is_empty() {
            return Ok((changes, keys));
        }
        warn!(keys = fixed, "changes need a restart");
        Ok((format!("{changes}; these keys need a restart: {fixed}"), keys))
    }
}

/// The content of the sources' file, where they have one, of which `known` was read before it was parsed.
#[must_use]
pub fn followed(sources: &Sources, known: Option<Vec<u8>>) -> Option<Followed<Vec<u8>>> {
    sources.file()?;
    let sources = sources.clone();
    Some(Followed::new(known, move || sources.file_content()))
}

/// Waits until what is followed has changed or can't be read any more, or for ever.
async fn changed<T: Clone + PartialEq + Send + 'static>(followed: &mut Option<Followed<T>>) -> Result<T, Unread> {
    match followed {
        Some(followed) => followed.changed().await,
        None => std::future::pending().await,
    }
}
