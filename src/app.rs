//! Wires the modules together: start, serve, stop.

use std::{io, mem::ManuallyDrop, sync::Arc, time::Duration};

use exporter_toolkit::{Exporter, Inherited, ListenAddress, WebConfig, settings::Problems};
use koodrive::TransportError;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_appender::non_blocking::WorkerGuard;

use crate::{
    account::{self, Account},
    check,
    clock::{Moment, WallClock, unix_seconds},
    collector::KooDrive,
    config::{Config, Sources},
    logging,
    metrics::{Exposition, OwnMetrics},
    poll::{Finished, Limiter, Observer, Supervisor},
    reload::{self, Reloader},
    roots,
    systemd::Systemd,
};

/// Longer than any interval between polls, which read secrets on such threads.
const BLOCKING_THREADS_LIVE: Duration = Duration::from_hours(24 * 365);

/// Why the exporter can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The exporter can't be served.
    #[error(transparent)]
    Serve(#[from] exporter_toolkit::Error),
    /// The HTTP client can't be made from the configured transport.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The metrics can't be registered.
    #[error("cannot register the exporter's own metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// What the demo's flags make of the configuration is wrong.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The simulator's address is none.
    #[error("--listen-address {0}")]
    Address(&'static str),
    /// The simulator's configuration can't be written.
    #[error("cannot write the configuration: {0}")]
    Write(io::Error),
    /// The system has no more threads or signals.
    #[error("cannot set up threads or signals: {0}")]
    System(#[from] io::Error),
}

/// An exporter that is ready to serve.
pub struct App {
    config: Config,
    /// Polls that may be in flight at once, as far as there are files for them.
    concurrency: usize,
    /// Connections to the API that may be idle.
    max_idle: usize,
    supervisor: Supervisor,
    own: Arc<OwnMetrics>,
    clock: WallClock,
    log: WorkerGuard,
}

/// A runtime with a thread for blocking work that never ends: where the system has no more threads, such work waits for it.
/// Without it, the work would be lost, and with it the permits that it holds.
///
/// # Errors
/// When the system has no more files. Where it has no threads, it panics.
pub fn runtime(builder: &mut Builder) -> io::Result<Runtime> {
    let runtime = builder.enable_all().thread_keep_alive(BLOCKING_THREADS_LIVE).build()?;
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}

impl App {
    /// Makes the exporter from its configuration, and sends its log to standard error.
    ///
    /// # Errors
    /// When the metrics can't be registered, or the system has no more files.
    pub fn new(config: Config) -> Result<Self, RunError> {
        // Before the log, which takes panics over. It is never dropped: its end would wait for a secret's file on a hung mount.
        let requests =
            ManuallyDrop::new(runtime(Builder::new_multi_thread().worker_threads(1).thread_name("requests"))?);
        let clock = WallClock::system();
        let own = Arc::new(OwnMetrics::new(unix_seconds(clock.now()))?);
        let log = logging::init(config.log, &own);
        own.config_loaded(unix_seconds(clock.now()));
        if let Some(shard) = config.shard {
            own.sharded(shard)?;
        }
        let open_files = exporter_toolkit::open_file_limit();
        let concurrency = config.concurrency.min((open_files / 4).max(1));
        if concurrency < config.concurrency {
            warn!(open_files, concurrency, "limit on open files is too low for poll.concurrency, allowing fewer polls");
        }
        let limiter = Limiter::new(concurrency);
        own.show_polls(&limiter)?;
        let max_idle = open_files / 8;
        let supervisor = Supervisor::new(limiter, max_idle, requests.handle().clone(), clock.clone(), observer(&own));
        Ok(Self { config, concurrency, max_idle, supervisor, own, clock, log })
    }

    /// Polls and serves until one of the `signals` stops it. `listening` gets the bound addresses, which are the configured
    /// ones unless systemd passed others on. `sources` are what a reload reads, and `content` what their file held before
    /// the configuration was read from it.
    ///
    /// # Errors
    /// When an address can't be bound or an HTTP client can't be made.
    pub async fn run(
        mut self,
        signals: Signals,
        sources: Sources,
        content: Option<Vec<u8>>,
        inherited: Option<Inherited>,
        listening: impl FnOnce(&[ListenAddress]),
    ) -> Result<(), RunError> {
        let Signals { stop, hangup } = signals;
        let followed = self.config.auto_reload.then(|| reload::followed(&sources, content)).flatten();
        let mut web = self.config.web.clone();
        web.options.reserved_files += self.concurrency + self.max_idle;
        let exposition = Exposition { store: Arc::clone(&self.supervisor.store), own: Arc::clone(&self.own) };
        let (reloads, requests) = mpsc::channel(reload::MAX_REQUESTS);
        let exporter = Exporter::new(KooDrive::new(exposition, self.clock.clone(), web.runbook_url))
            .reloads(web.enable_lifecycle.then_some(reloads))
            .inherited(inherited);
        let certificate = web.options.web_config.as_ref().and_then(WebConfig::certificate_expiry);
        let path = format!("{}{}", web.options.paths.prefix, web.options.paths.telemetry);
        let exporter = exporter.bind(web.options).await?;
        let addresses = exporter.addresses();
        for address in &addresses {
            info!(%address, path, tls = exporter.has_tls(), "listening");
        }
        if let Some(warning) = certificate.and_then(|expiry| check::certificate_warning(expiry, self.clock.now())) {
            warn!(warning, "certificate needs to be renewed");
        }
        listening(&addresses);
        let accounts = self.config.accounts_of(self.config.shard);
        warn_of_low_concurrency(&accounts, self.concurrency);
        self.supervisor.run(&accounts)?;
        let roots = roots::followed(&accounts);
        let accounts = account::count(&accounts);
        info!(version = env!("CARGO_PKG_VERSION"), revision = env!("BUILD_REVISION"), accounts, "polling");
        let systemd = Systemd::of_environment();
        systemd.ready();
        let mut tasks = JoinSet::new();
        tasks.spawn(systemd.clone().feed_watchdog(Arc::clone(&self.supervisor.store)));
        let Self { config, supervisor, own, clock, log, .. } = self;
        let reloader = Reloader {
            sources,
            running: config.clone(),
            started: config,
            supervisor,
            own,
            clock,
            followed,
            roots,
            systemd: systemd.clone(),
            configured: true,
            reading: Arc::default(),
        };
        tasks.spawn(reloader.run(hangup, requests));
        let shutdown = async {
            stop.cancelled().await;
            systemd.stopping();
        };
        exporter.serve(shutdown).await;
        tasks.shutdown().await;
        info!("stopped");
        drop(log);
        Ok(())
    }

    /// Polls every account once, and returns what is known of them then.
    ///
    /// # Errors
    /// When an HTTP client can't be made.
    pub async fn once(mut self) -> Result<(Exposition, Moment), RunError> {
        self.supervisor.poll_once(&self.config.accounts_of(self.config.shard)).await?;
        let exposition = Exposition { store: Arc::clone(&self.supervisor.store), own: self.own };
        Ok((exposition, self.clock.moment()))
    }
}

/// Polls are punctual for certain where all accounts could time out at once and still find permits.
fn warn_of_low_concurrency(accounts: &[Arc<Account>], concurrency: usize) {
    let needed: f64 =
        accounts.iter().map(|account| account.poll.timeout.div_duration_f64(account.poll.interval)).sum::<f64>().ceil();
    #[expect(clippy::cast_precision_loss, reason = "at most 10000")]
    let available = concurrency as f64;
    if needed > available {
        warn!(concurrency, needed, "poll.concurrency is too low for all accounts to time out at once");
    }
}

fn observer(own: &Arc<OwnMetrics>) -> Observer {
    let own = Arc::clone(own);
    Arc::new(move |finished: &Finished| own.polled(finished))
}

/// The signals of a run: those that come before the configuration has been read count, too.
pub struct Signals {
    stop: CancellationToken,
    hangup: Signal,
}

impl Signals {
    /// Waits for them from now on.
    ///
    /// # Errors
    /// When the signals can't be waited for.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { stop: stop_on_signal()?, hangup: signal(SignalKind::hangup())? })
    }
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
