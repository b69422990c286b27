//! Wires the rooms together: start, serve, stop.

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    clock::{WallClock, unix_seconds},
    config::{Config, ListenAddress, Problems, Sources},
    fleet::Fleet,
    koodrive::TransportError,
    logging,
    metrics::{Exposition, Format, OwnMetrics},
    poll::{Board, Finished, Lanes, Observer},
    reload::{self, Reloader},
    systemd,
    web::{
        Guard, Inherited, Routes,
        server::{self, BindError, Terms},
    },
};

/// Why the exporter can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A listen address can't be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The HTTP client can't be made from the configured transport.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// What the web configuration file says does not fit together.
    #[error(transparent)]
    WebConfig(#[from] Problems),
    /// The metrics can't be registered.
    #[error("cannot register the exporter's own metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Signals can't be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(#[from] io::Error),
}

/// An exporter that is ready to serve.
pub struct App {
    config: Config,
    fleet: Fleet,
    own: Arc<OwnMetrics>,
    clock: WallClock,
    guard: Arc<Guard>,
}

impl App {
    /// Makes the exporter from its configuration, and sends its log to standard error. `lanes` bounds its polls.
    ///
    /// # Errors
    /// When the web configuration can't be served.
    pub fn new(config: Config, lanes: Lanes) -> Result<Self, RunError> {
        let guard = Arc::new(Guard::new(config.web.file.as_ref())?);
        let clock = WallClock::system();
        let own = Arc::new(OwnMetrics::new()?);
        logging::init(config.log, &own);
        own.config_loaded(unix_seconds(clock.now()));
        if let Some(shard) = config.shard {
            own.sharded(shard)?;
        }
        let fleet = Fleet::new(lanes, clock.clone(), observer(&own));
        Ok(Self { config, fleet, own, clock, guard })
    }

    /// Polls and serves until SIGTERM or SIGINT. `listening` is told the bound addresses, which are the configured
    /// ones unless systemd passed others on. `sources` are what a reload reads.
    ///
    /// # Errors
    /// When an address can't be bound or an HTTP client can't be made.
    pub async fn run(
        mut self,
        sources: Sources,
        inherited: Option<Inherited>,
        listening: impl FnOnce(&[ListenAddress]),
    ) -> Result<(), RunError> {
        let stop = stop_on_signal()?;
        let hangup = signal(SignalKind::hangup())?;
        let followed = self.config.auto_reload.then(|| reload::followed(&sources)).flatten();
        let web = self.config.web.clone();
        let bound = server::bind(&web.listen_addresses, inherited).await?;
        let addresses = bound.addresses();
        let path = format!("{}{}", web.paths.prefix, web.paths.telemetry);
        for address in &addresses {
            info!(%address, path, tls = self.guard.has_tls(), "listening");
        }
        listening(&addresses);
        let accounts = self.config.accounts_of(self.config.shard);
        self.fleet.run(&accounts)?;
        let accounts = accounts.len();
        info!(version = env!("CARGO_PKG_VERSION"), revision = env!("BUILD_REVISION"), accounts, "polling");
        systemd::ready("polling");
        let board = Arc::clone(&self.fleet.board);
        let exposition = Exposition { board: Arc::clone(&board), own: Arc::clone(&self.own) };
        let terms = Terms {
            guard: Some(Arc::clone(&self.guard)),
            max_connections: web.max_connections,
            own: Some(Arc::clone(&self.own)),
        };
        let (reloads, requests) = mpsc::channel(1);
        let reloads = web.enable_lifecycle.then_some(reloads);
        let routes = Routes::new(exposition, &web, Arc::clone(&self.guard), self.clock.clone(), reloads, stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(systemd::feed_watchdog(board));
        if let Some(file) = web.file {
            let (guard, own) = (self.guard, Arc::clone(&self.own));
            tasks.spawn(async move { guard.follow(file, &own).await });
        }
        let Self { config, fleet, own, clock, .. } = self;
        let reloader = Reloader { sources, started: config, fleet, own, clock, followed };
        tasks.spawn(reloader.run(hangup, requests));
        let stopping = async {
            stop.cancelled().await;
            systemd::stopping();
        };
        tokio::join!(bound.serve(Arc::new(routes), terms, stop.clone()), stopping);
        tasks.shutdown().await;
        info!("stopped");
        Ok(())
    }

    /// Polls every account once. The exposition, and whether all polls succeeded.
    ///
    /// # Errors
    /// When an HTTP client can't be made.
    pub async fn once(mut self) -> Result<Once, RunError> {
        let mut polls = JoinSet::new();
        for poller in self.fleet.set(&self.config.accounts_of(self.config.shard))? {
            polls.spawn(async move { poller.poll().await });
        }
        polls.join_all().await;
        let now = self.clock.moment();
        let board = self.fleet.board;
        let exposition = Exposition { board: Arc::clone(&board), own: self.own };
        Ok(Once { exposition: exposition.encode(Format::Text0, now, 0).0, board })
    }
}

/// What polling every account once came to.
pub struct Once {
    /// In the Prometheus text format.
    pub exposition: Vec<u8>,
    /// What is known of the accounts now.
    pub board: Arc<Board>,
}

impl Once {
    /// Whether all polls succeeded.
    #[must_use]
    pub fn all_good(&self) -> bool {
        self.board.slots().iter().all(|slot| slot.state().up())
    }
}

fn observer(own: &Arc<OwnMetrics>) -> Observer {
    let own = Arc::clone(own);
    Arc::new(move |finished: &Finished| own.polled(finished))
}

/// A token that SIGTERM or SIGINT cancels. A second signal ends the process at once.
///
/// # Errors
/// When the signals can't be waited for.
pub fn stop_on_signal() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let signal = next().await;
        info!(signal, "stopping");
        cancelled.cancel();
        let signal = next().await;
        warn!(signal, "stopping at once");
        std::process::exit(1);
    });
    Ok(stop)
}
