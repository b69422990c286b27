//! An exporter: a collector behind the toolkit's server.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{
    access::{Access, Protected},
    access_policy::WebConfigHandle,
    collector::Collector,
    listen_address::ListenAddress,
    listeners::Inherited,
    metrics::ServerMetrics,
    paths::Paths,
    routes::{Reloads, RouteTable, Routes},
    server::{self, BindError, Bound, HttpService, ServerOptions},
    settings::Problems,
    web_config::WebConfig,
};

/// How an exporter is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// At least one, unless systemd passes sockets on.
    pub listen_addresses: Vec<ListenAddress>,
    /// Whether it is an error if systemd passes no sockets.
    pub systemd_socket: bool,
    /// The paths of the pages, as requests name them and as links do.
    pub paths: Paths,
    /// TLS, headers and passwords, as they were when the file was read. Its changes are followed.
    pub web_config: Option<WebConfig>,
    /// Whether health and readiness are shown without a password where `web_config` asks for one.
    pub health_without_password: bool,
    /// Requests that may wait for a page at once; without it there is no bound.
    pub max_requests: Option<usize>,
    /// Open connections.
    pub max_connections: usize,
    /// Files, sockets and others that the program has open beside these connections.
    pub reserved_files: usize,
    /// What the names of the server's own metrics begin with; `None` leaves them out.
    pub namespace: Option<String>,
    /// The realm that a browser shows when it asks for a password.
    pub realm: String,
}

impl Default for Options {
    /// Requests that wait for a page share the work, and each costs its memory alone. Each open connection costs some
    /// 15 KB of memory and a file descriptor.
    fn default() -> Self {
        Self {
            listen_addresses: vec![ListenAddress::Tcp(SocketAddr::from(([0u16; 8], 0)))],
            systemd_socket: false,
            paths: Paths::default(),
            web_config: None,
            health_without_password: true,
            max_requests: Some(4096),
            max_connections: 512,
            reserved_files: 128,
            namespace: Some("exporter".to_owned()),
            realm: "exporter".to_owned(),
        }
    }
}

/// Why an exporter can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listen address can't be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The web configuration can't be used.
    #[error(transparent)]
    WebConfig(#[from] Problems),
    /// Sockets of systemd are wanted, and there are none.
    #[error("--web.systemd-socket: systemd passed no sockets")]
    NoSockets,
    /// The system has no more threads.
    #[error("cannot start a thread: {0}")]
    System(#[from] io::Error),
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// An exporter that does not listen yet.
pub struct Exporter {
    collector: Arc<dyn Collector>,
    reloads: Option<Reloads>,
    inherited: Option<Inherited>,
}

/// A server that listens and does not answer yet.
pub struct BoundServer<S> {
    service: S,
    bound: Bound,
    options: ServerOptions,
    access: Arc<WebConfigHandle>,
    metrics: Arc<ServerMetrics>,
    web_config: Option<WebConfig>,
    stop: CancellationToken,
}

/// Binds all addresses, or none, for any service of hyper. Its requests are answered as the web configuration says: by TLS,
/// within the rate limit, to users with a password, with headers. What is about an exporter's pages in the options does
/// not matter. Bodies of requests are taken slowly, as those of scrapes are empty.
///
/// # Errors
/// When the options can't be read, the web configuration can't be used, or an address can't be bound.
pub async fn bind_service<S, O>(service: S, options: O) -> Result<BoundServer<Protected<S>>, Error>
where
    S: HttpService,
    O: TryInto<Options, Error: Into<Error>>,
{
    let options = options.try_into().map_err(Into::into)?;
    let service = Protected::new(service, Access::new(options.web_config.as_ref(), &options.realm)?);
    let (access, metrics) = (service.web_config(), Arc::default());
    BoundServer::bind(service, (access, metrics), options, None, CancellationToken::new()).await
}

impl Exporter {
    /// An exporter of what `collector` shows.
    #[must_use]
    pub fn new(collector: impl Collector) -> Self {
        Self { collector: Arc::new(collector), reloads: None, inherited: None }
    }

    /// Allows reloads by `POST /-/reload`, each of which is sent there.
    #[must_use]
    pub fn reloads(mut self, reloads: Option<Reloads>) -> Self {
        self.reloads = reloads;
        self
    }

    /// Listens on sockets that systemd passed on, instead of all addresses.
    #[must_use]
    pub fn inherited(mut self, inherited: Option<Inherited>) -> Self {
        self.inherited = inherited;
        self
    }

    /// Binds all addresses, or none.
    ///
    /// # Errors
    /// When the options can't be read, the web configuration can't be used, or an address can't be bound.
    pub async fn bind<O>(self, options: O) -> Result<BoundServer<Routes>, Error>
    where
        O: TryInto<Options, Error: Into<Error>>,
    {
        let options = options.try_into().map_err(Into::into)?;
        let stop = CancellationToken::new();
        let routes = RouteTable::new(self.collector, &options, self.reloads, stop.clone())?;
        let (access, metrics) = (Arc::clone(&routes.access.web_config), Arc::clone(&routes.metrics));
        BoundServer::bind(Routes(Arc::new(routes)), (access, metrics), options, self.inherited, stop).await
    }

    /// What answers requests, without a listener.
    ///
    /// # Errors
    /// When the web configuration can't be used.
    pub fn routes(self, options: &Options) -> Result<Routes, Error> {
        let routes = RouteTable::new(self.collector, options, self.reloads, CancellationToken::new())?;
        Ok(Routes(Arc::new(routes)))
    }
}

impl<S: HttpService> BoundServer<S> {
    /// Comes last: a Unix socket that was bound would leave its file behind where something else fails.
    async fn bind(
        service: S,
        (access, metrics): (Arc<WebConfigHandle>, Arc<ServerMetrics>),
        options: Options,
        inherited: Option<Inherited>,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let inherited = match inherited {
            None if options.systemd_socket => Some(Inherited::from_environment()?.ok_or(Error::NoSockets)?),
            inherited => inherited,
        };
        let bound = server::bind(&options.listen_addresses, inherited).await?;
        let server = ServerOptions {
            web_config: Some(Arc::clone(&access)),
            max_connections: options.max_connections,
            reserved_files: options.reserved_files,
            metrics: Some(Arc::clone(&metrics)),
        };
        Ok(Self { service, bound, options: server, access, metrics, web_config: options.web_config, stop })
    }

    /// The addresses that are listened on, with the ports that were given for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.bound.addresses()
    }

    /// Whether connections are by TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.access.has_tls()
    }

    /// Serves until `shutdown` completes; then accepts no more, lets answers in flight finish for up to four seconds,
    /// and returns. Changes of the web configuration are applied meanwhile.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { service, bound, options, access, metrics, web_config, stop } = self;
        let follow = async {
            if let Some(file) = web_config {
                access.follow(file, &metrics).await;
            }
        };
        let shutdown = async {
            shutdown.await;
            stop.cancel();
        };
        tokio::join!(bound.serve(service, options, stop.clone()), shutdown, stop.run_until_cancelled(follow));
    }
}
