//! The HTTP client that accounts with one transport share: roots, proxy, time limits.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use reqwest::{Proxy as HttpProxy, redirect, retry};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, pem::PemObject},
};

use tokio::time::Instant;

use crate::{
    account::{Account, Proxy, Transport},
    resolver::Resolver,
};

/// What the connections of an account depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    transport: Transport,
    /// The bound on a poll, which all addresses of a host share while a connection is made.
    timeout: Duration,
}

impl ConnectionKey {
    /// The account's.
    #[must_use]
    pub fn new(account: &Account, timeout: Duration) -> Self {
        Self { transport: account.transport.clone(), timeout }
    }
}

/// Older connections are replaced, so that a change of the name's addresses or of the certificate is noticed.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(10);

/// The connections that accounts with equal keys share, replaced from time to time.
#[derive(Clone)]
pub struct HttpClient(Arc<Shared>);

struct Shared {
    key: ConnectionKey,
    tls: ClientConfig,
    user_agent: String,
    resolver: Arc<Resolver>,
    /// How many idle connections are kept to each host.
    max_idle: AtomicUsize,
    current: ArcSwap<Generation>,
}

/// The connections of one time.
pub(crate) struct Generation {
    pub(crate) http: reqwest::Client,
    since: Instant,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("key", &self.0.key).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// The connections for a request now.
    pub(crate) fn connections(&self) -> Arc<Generation> {
        let current = self.0.current.load_full();
        if current.since.elapsed() < MAX_CONNECTION_AGE {
            return current;
        }
        self.renew(&current);
        self.0.current.load_full()
    }

    /// Keeps at most so many idle connections to each host from now on, and closes all that are idle now.
    pub fn keep_idle(&self, max_idle: usize) {
        self.0.max_idle.store(max_idle, Ordering::Relaxed);
        self.renew(&self.0.current.load_full());
    }

    /// Has later requests make connections of their own, unless others than `used` have been made already. Requests in
    /// flight go on.
    pub(crate) fn renew(&self, used: &Arc<Generation>) {
        if !Arc::ptr_eq(used, &self.0.current.load()) {
            return;
        }
        let Shared { key, tls, user_agent, resolver, max_idle, .. } = self.0.as_ref();
        if let Ok(http) = client(key, tls, user_agent, resolver, max_idle.load(Ordering::Relaxed)) {
            let renewed = Arc::new(Generation { http, since: Instant::now() });
            self.0.current.compare_and_swap(used, renewed);
        }
    }
}

/// Makes the client. Certificates are always verified, with the system's roots (the Mozilla roots
/// built in where the system has none) and the transport's own. Redirects are never followed: a
/// signature covers the path, and a token must not reach another origin. Nothing is retried here.
///
/// It keeps at most `max_idle` idle connections to each host.
///
/// # Errors
/// When an extra root is no certificate.
pub fn build(key: &ConnectionKey, user_agent: &str, max_idle: usize) -> Result<HttpClient, TransportError> {
    let tls = tls_config(&key.transport.extra_roots)?;
    let resolver = Arc::<Resolver>::default();
    let http = client(key, &tls, user_agent, &resolver, max_idle)?;
    let current = ArcSwap::from_pointee(Generation { http, since: Instant::now() });
    let (key, user_agent, max_idle) = (key.clone(), user_agent.to_owned(), max_idle.into());
    Ok(HttpClient(Arc::new(Shared { key, tls, user_agent, resolver, max_idle, current })))
}

fn client(
    key: &ConnectionKey,
    tls: &ClientConfig,
    user_agent: &str,
    resolver: &Arc<Resolver>,
    max_idle: usize,
) -> Result<reqwest::Client, TransportError> {
    let ConnectionKey { transport, timeout } = key;
    let builder = reqwest::Client::builder()
        .user_agent(user_agent)
        .dns_resolver(Arc::clone(resolver))
        .tls_backend_preconfigured(tls.clone())
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .connect_timeout(*timeout)
        .pool_max_idle_per_host(max_idle);
    let builder = match &transport.proxy {
        Proxy::Direct => builder.no_proxy(),
        Proxy::Url(url) => builder.proxy(HttpProxy::https(url.clone()).map_err(|_| TransportError::Proxy)?),
    };
    builder.build().map_err(|_| TransportError::Client)
}

fn tls_config(extra_roots: &[u8]) -> Result<ClientConfig, TransportError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    for root in CertificateDer::pem_slice_iter(extra_roots) {
        let root = root.map_err(|_| TransportError::ExtraRoot)?;
        roots.add(root).map_err(|_| TransportError::ExtraRoot)?;
    }
    let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| TransportError::Client)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // By HTTP/2, all polls of an origin would share one connection: where it hangs, all of them would, and how many may be in
    // flight would be for the API to say.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session does not look at the certificate again, which may have expired since.
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

/// Why no HTTP client can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// One of the extra roots is no certificate.
    #[error("an extra CA is not a PEM certificate")]
    ExtraRoot,
    /// The proxy's URL can't be used.
    #[error("the proxy's URL cannot be used")]
    Proxy,
    /// The HTTP library refused its settings.
    #[error("the HTTP client cannot be made")]
    Client,
}
