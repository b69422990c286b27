//! The HTTP client that accounts with one transport share: roots, proxy, time limits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use reqwest::{Proxy as HttpProxy, redirect, retry};
use tokio::time::Instant;

use crate::{
    account::{Proxy, Transport},
    error::TransportError,
    resolver::Resolver,
    tls::{Expiry, Tls},
};

/// What the connections of an account depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// How the endpoint is reached.
    pub transport: Transport,
    /// The bound on a poll, which all addresses of a host share while a connection is made.
    pub timeout: Duration,
}

/// Older connections are replaced, so that a change of the name's addresses is noticed.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(10);

/// The connections that accounts with equal keys share, replaced from time to time.
#[derive(Clone)]
pub struct HttpClient(Arc<Shared>);

struct Shared {
    key: ConnectionKey,
    tls: Tls,
    user_agent: String,
    /// How many idle connections are kept to each host.
    max_idle: AtomicUsize,
    current: ArcSwap<Generation>,
}

/// The connections of one time.
pub(crate) struct Generation {
    pub(crate) http: reqwest::Client,
    since: Instant,
    expiry: Expiry,
}

impl HttpClient {
    /// The connections for a request now.
    pub(crate) fn connections(&self) -> Arc<Generation> {
        let current = self.0.current.load_full();
        if current.since.elapsed() < MAX_CONNECTION_AGE && !current.expiry.has_passed() {
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
        let Shared { key, tls, user_agent, max_idle, .. } = self.0.as_ref();
        if let Ok(renewed) = generation(key, tls, user_agent, max_idle.load(Ordering::Relaxed)) {
            self.0.current.compare_and_swap(used, Arc::new(renewed));
        }
    }
}

/// Makes the client. Certificates are always verified, and connections are not used beyond their expiry. Redirects are never
/// followed: a signature covers the path, and a token must not reach another origin. Nothing is retried here.
///
/// It keeps at most `max_idle` idle connections to each host.
///
/// # Errors
/// When an extra root is no certificate.
pub fn build(key: &ConnectionKey, user_agent: &str, max_idle: usize) -> Result<HttpClient, TransportError> {
    let tls = Tls::new(&key.transport.extra_roots)?;
    let current = ArcSwap::from_pointee(generation(key, &tls, user_agent, max_idle)?);
    let (key, user_agent, max_idle) = (key.clone(), user_agent.to_owned(), max_idle.into());
    Ok(HttpClient(Arc::new(Shared { key, tls, user_agent, max_idle, current })))
}

fn generation(key: &ConnectionKey, tls: &Tls, user_agent: &str, max_idle: usize) -> Result<Generation, TransportError> {
    let ConnectionKey { transport, timeout } = key;
    let expiry = Expiry::default();
    let builder = reqwest::Client::builder()
        .user_agent(user_agent)
        .dns_resolver(Resolver::default())
        .tls_backend_preconfigured(tls.noting(expiry.clone()))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .connect_timeout(*timeout)
        .pool_max_idle_per_host(max_idle);
    let builder = match &transport.proxy {
        Proxy::Direct => builder.no_proxy(),
        Proxy::Url(url) => builder.proxy(HttpProxy::https(url.clone()).map_err(|_| TransportError::Proxy)?),
    };
    let http = builder.build().map_err(|_| TransportError::Client)?;
    Ok(Generation { http, since: Instant::now(), expiry })
}
