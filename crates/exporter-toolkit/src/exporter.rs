//! An exporter: a collector behind the toolkit's server.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    access::{Access, Protected},
    access_policy::WebConfigHandle,
    collector::Collector,
    listen_address::ListenAddress,
    listeners::Inherited,
    metrics::ServerMetrics,
    options::{Error, Options},
    routes::{Reloads, RouteTable, Routes},
    server::{self, Bound, ServerOptions},
    service::HttpService,
    web_config::WebConfig,
};

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
