//! The HTTP client that accounts with one transport share: roots, proxy, time limits.

use std::{sync::Arc, time::Duration};

use reqwest::{Proxy as HttpProxy, redirect, retry};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::account::{Account, Proxy, Transport};

/// How soon a dead HTTP/2 connection is found: without it, every poll of an origin would run into its
/// timeout until the kernel gives the connection up, some 15 minutes later.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(15);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(5);

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

/// The connections that accounts with equal keys share.
pub type HttpClient = reqwest::Client;

/// Makes the client. Certificates are always verified, with the system's roots (the Mozilla roots
/// built in where the system has none) and the transport's own. Redirects are never followed: a
/// signature covers the path, and a token must not reach another origin. Nothing is retried here.
///
/// # Errors
/// When an extra root is no certificate.
pub fn build(key: &ConnectionKey, user_agent: &str) -> Result<HttpClient, TransportError> {
    let ConnectionKey { transport, timeout } = key;
    let tls = tls_config(&transport.extra_roots)?;
    let builder = reqwest::Client::builder()
        .user_agent(user_agent)
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .connect_timeout(*timeout)
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .http2_keep_alive_while_idle(true);
    let builder = match &transport.proxy {
        Proxy::Environment => builder,
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
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
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
