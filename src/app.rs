//! Wires the rooms together: start, serve, stop.

use std::{collections::HashMap, io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    account::Account,
    clock::{WallClock, unix_seconds},
    config::{Config, ListenAddress, Problems, Web},
    koodrive::{self, Client, ServerClock, TransportError},
    logging,
    metrics::{Exposition, Format, OwnMetrics, Shared},
    poll::{Board, Finished, Lanes, Now, Observer, Poller, Slot},
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
    exposition: Exposition,
    pollers: Vec<Poller<Client>>,
    clock: WallClock,
    guard: Arc<Guard>,
    web: Web,
}

impl App {
    /// Makes the exporter from its configuration, and sends its log to standard error. `lanes` bounds its polls.
    ///
    /// # Errors
    /// When a transport's HTTP client can't be made, or the web configuration can't be served.
    pub fn new(config: &Config, lanes: &Lanes) -> Result<Self, RunError> {
        let guard = Arc::new(Guard::new(config.web.file.as_ref())?);
        let clock = WallClock::system();
        let own = Arc::new(OwnMetrics::new()?);
        logging::init(config.log, &own);
        own.config_loaded(unix_seconds(clock.now()));
        if let Some(shard) = config.shard {
            own.sharded(shard)?;
        }
        let owned = |account: &&Arc<Account>| config.shard.is_none_or(|shard| shard.owns(&account.alias));
        let board = Arc::new(Board::new(config.accounts.iter().filter(owned)));
        let pollers = pollers(&board, lanes, &clock, &observer(&own))?;
        let exposition = Exposition { board, own };
        Ok(Self { exposition, pollers, clock, guard, web: config.web.clone() })
    }

    /// Polls and serves until SIGTERM or SIGINT. `listening` is told the bound addresses, which are the configured
    /// ones unless systemd passed others on.
    ///
    /// # Errors
    /// When an address can't be bound.
    pub async fn run(
        self,
        inherited: Option<Inherited>,
        listening: impl FnOnce(&[ListenAddress]),
    ) -> Result<(), RunError> {
        let stop = stop_on_signal()?;
        let bound = server::bind(&self.web.listen_addresses, inherited).await?;
        let addresses = bound.addresses();
        let path = format!("{}{}", self.web.paths.prefix, self.web.paths.telemetry);
        for address in &addresses {
            info!(%address, path, tls = self.guard.has_tls(), "listening");
        }
        listening(&addresses);
        let accounts = self.pollers.len();
        info!(version = env!("CARGO_PKG_VERSION"), revision = env!("BUILD_REVISION"), accounts, "polling");
        let mut loops = JoinSet::new();
        for poller in self.pollers {
            loops.spawn(poller.run(accounts));
        }
        let own = Arc::clone(&self.exposition.own);
        if let Some(file) = self.web.file.clone() {
            let (guard, own) = (Arc::clone(&self.guard), Arc::clone(&own));
            loops.spawn(async move { guard.follow(file, &own).await });
        }
        let shared = Arc::new(Shared::new(self.exposition, self.clock.clone()));
        let guard = Some(Arc::clone(&self.guard));
        let terms = Terms { guard, max_connections: self.web.max_connections, own: Some(own) };
        let routes = Routes::new(shared, &self.web, self.guard, self.clock, stop.clone());
        bound.serve(Arc::new(routes), terms, stop).await;
        loops.shutdown().await;
        info!("stopped");
        Ok(())
    }

    /// Polls every account once. The exposition, and whether all polls succeeded.
    pub async fn once(self) -> (Vec<u8>, bool) {
        let mut polls = JoinSet::new();
        for poller in self.pollers {
            polls.spawn(async move { poller.poll().await });
        }
        polls.join_all().await;
        let now = Now { monotonic: Instant::now(), wall: self.clock.now() };
        let good = self.exposition.board.slots().iter().all(|slot| slot.state().up());
        (self.exposition.encode(Format::Text0, now, 0).0, good)
    }
}

/// Accounts with equal transports share one HTTP client, and so their connections; those of one origin
/// share what is known of its clock.
fn pollers(
    board: &Board,
    lanes: &Lanes,
    clock: &WallClock,
    observer: &Observer,
) -> Result<Vec<Poller<Client>>, TransportError> {
    let mut transports = HashMap::new();
    let mut http_for = |account: &Account| {
        if let Some(http) = transports.get(&account.transport) {
            return Ok(reqwest::Client::clone(http));
        }
        let http = koodrive::build_http(&account.transport)?;
        transports.insert(account.transport.clone(), http.clone());
        Ok(http)
    };
    let mut server_clocks: HashMap<String, Arc<ServerClock>> = HashMap::new();
    let poller = |slot: &Arc<Slot>| {
        let account = slot.account();
        let server_clock = Arc::clone(server_clocks.entry(account.endpoint.host().to_owned()).or_default());
        let client = Client::new(http_for(account)?, Arc::clone(account), clock.clone(), server_clock);
        Ok(Poller {
            slot: Arc::clone(slot),
            upstream: Arc::new(client),
            lanes: lanes.clone(),
            clock: clock.clone(),
            observer: Arc::clone(observer),
        })
    };
    board.slots().iter().map(poller).collect()
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
