//! The configuration read anew while the exporter runs: on SIGHUP, on a request, and on a change of its file.
//!
//! A configuration is validated as a whole and put in force as a whole; a bad one changes nothing.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use crate::{
    clock::{WallClock, unix_seconds},
    config::{Config, Sources},
    fleet::Fleet,
    metrics::OwnMetrics,
    systemd,
};

/// How often the file is looked at, where its changes are to be followed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Asks for a reload, and is told what was wrong if anything was.
pub type Requests = mpsc::Sender<oneshot::Sender<Result<(), String>>>;

/// What a reload works on.
pub struct Reloader {
    /// Read anew each time.
    pub sources: Sources,
    /// What is in force.
    pub config: Config,
    /// Whose accounts change.
    pub fleet: Fleet,
    /// Where reloads are counted.
    pub own: Arc<OwnMetrics>,
    /// The time of day.
    pub clock: WallClock,
    /// Where they are to be followed, the changes of the file since it was read.
    pub changes: Changes,
}

impl Reloader {
    /// Reloads on SIGHUP and on `requests`, and where it is configured on a change of the file; for ever.
    ///
    /// # Errors
    /// When the signal can't be waited for.
    pub async fn run(mut self, mut requests: mpsc::Receiver<oneshot::Sender<Result<(), String>>>) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                () = received(&mut hangup) => drop(self.reload("SIGHUP")),
                () = self.changes.next() => drop(self.reload("the file has changed")),
                Some(reply) = requests.recv() => drop(reply.send(self.reload("a request"))),
            }
        }
    }

    fn reload(&mut self, cause: &str) -> Result<(), String> {
        systemd::reloading();
        let loaded = self.load();
        match &loaded {
            Ok(accounts) => {
                self.own.config_loaded(unix_seconds(self.clock.now()));
                info!(cause, accounts, "the configuration was reloaded");
            }
            Err(problems) => {
                self.own.config_failed();
                error!(cause, problems, "the configuration is bad and was not reloaded: the old one stays");
            }
        }
        systemd::ready("polling");
        loaded.map(|_| ())
    }

    /// Puts the configuration in force, and tells how many accounts it has.
    fn load(&mut self) -> Result<usize, String> {
        let config = Config::load(&self.sources).map_err(|problems| problems.to_string())?;
        let accounts = config.own_accounts();
        let change = self.fleet.run(&accounts).map_err(|error| error.to_string())?;
        info!(started = change.started, stopped = change.stopped, "accounts were put in force");
        let fixed = config.fixed_differences(&self.config);
        if !fixed.is_empty() {
            let keys = fixed.join(", ");
            warn!(keys, "these changes are in force from the next start on");
        }
        self.config = config;
        Ok(accounts.len())
    }
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Changes of the configuration file's content, whatever its time stamps say.
pub struct Changes {
    file: Option<std::path::PathBuf>,
    latest: Option<Vec<u8>>,
}

impl Changes {
    /// Of the sources' file, where it has one and the changes are `wanted`.
    #[must_use]
    pub fn new(sources: &Sources, wanted: bool) -> Self {
        let file = sources.file().filter(|_| wanted).map(ToOwned::to_owned);
        let latest = file.as_ref().and_then(|file| std::fs::read(file).ok());
        Self { file, latest }
    }

    /// Waits for the next one, or for ever.
    async fn next(&mut self) {
        let Some(file) = self.file.clone() else { return std::future::pending().await };
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            // A file that is not there for a moment is about to be replaced.
            let Ok(content) = tokio::fs::read(&file).await else { continue };
            if self.latest.as_ref() != Some(&content) {
                self.latest = Some(content);
                return;
            }
        }
    }
}
