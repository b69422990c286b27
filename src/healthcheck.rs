//! `healthcheck`: whether a running exporter is healthy, for containers that have neither shell nor curl.

use std::{
    error::Error,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use exporter_toolkit::ListenAddress;
use rustls::{AlertDescription, crypto::ring};

use crate::config::Listening;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Requests for one page, where a connection ends without a reason.
const ATTEMPTS: usize = 3;

/// The alerts by which an exporter ends a connection without a client's certificate (TLS 1.3, TLS 1.2).
const CERTIFICATE_REQUIRED: [AlertDescription; 3] =
    [AlertDescription::CertificateRequired, AlertDescription::HandshakeFailure, AlertDescription::BadCertificate];

/// Where an exporter is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// One of them answers.
    urls: Vec<String>,
    /// The socket's file, where it is no TCP address.
    unix_socket: Option<PathBuf>,
}

impl Target {
    /// The page at a URL.
    #[must_use]
    pub fn of_url(url: String) -> Self {
        Self { urls: vec![url], unix_socket: None }
    }

    /// The health page at the first TCP address that the configuration has, from this host, or else at its first socket.
    #[must_use]
    pub fn of(listening: &Listening) -> Self {
        let addresses = &listening.addresses;
        let is_tcp = |address: &&ListenAddress| !matches!(address, ListenAddress::Unix(_));
        let (host, unix_socket) = match addresses.iter().find(is_tcp).or(addresses.first()) {
            Some(ListenAddress::Tcp(address)) if !address.ip().is_unspecified() => (address.to_string(), None),
            Some(ListenAddress::Tcp(address)) => (format!("localhost:{}", address.port()), None),
            Some(ListenAddress::Unix(socket)) => ("localhost".to_owned(), Some(socket.path.clone())),
            Some(host @ ListenAddress::Host(..)) => (host.to_string(), None),
            None => ("localhost".to_owned(), None),
        };
        let schemes = match listening.tls {
            Some(true) => &["https"][..],
            Some(false) => &["http"],
            None => &["https", "http"],
        };
        let url = |scheme: &&str| format!("{scheme}://{host}{}/-/healthy", listening.prefix);
        Self { urls: schemes.iter().map(url).collect(), unix_socket }
    }
}

/// Asks for the page. An exporter that wants a password or a client's certificate is alive.
///
/// The certificate is not looked at: nothing secret is sent, and the exporter's name is hardly `localhost`.
///
/// # Errors
/// Why the exporter is not healthy, as far as it is known.
pub async fn ask(target: &Target) -> Result<(), String> {
    let client = client(target).map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    let mut result = Ok(());
    for url in &target.urls {
        result = match answer(&client, url).await {
            Ok(answer) if answer.status().is_success() || answer.status() == 401 => return Ok(()),
            Ok(answer) => Err(format!("the exporter answers {}", answer.status())),
            Err(error) if wants_certificate(&error) => return Ok(()),
            Err(error) => Err(format!("cannot reach the exporter: {}", causes(&error).last().unwrap_or(&error))),
        };
    }
    result
}

/// The answer of a page. By TLS 1.3 a server refuses a client without a certificate after the handshake, and may end the
/// connection before the request is written: then its alert is not seen, and another try may see it.
async fn answer(client: &reqwest::Client, url: &str) -> reqwest::Result<reqwest::Response> {
    let mut answer = client.get(url).send().await;
    for _ in 1..ATTEMPTS {
        match &answer {
            Err(error) if !(error.is_connect() || error.is_timeout() || wants_certificate(error)) => {
                answer = client.get(url).send().await;
            }
            _ => break,
        }
    }
    answer
}

/// An error, then its causes down to the innermost, which says what happened.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn wants_certificate(error: &reqwest::Error) -> bool {
    let is_wish = |tls: &rustls::Error| matches!(tls, rustls::Error::AlertReceived(alert) if CERTIFICATE_REQUIRED.contains(alert));
    causes(error).filter_map(koodrive::tls_error).any(is_wish)
}

fn client(target: &Target) -> reqwest::Result<reqwest::Client> {
    // Fails only where it is installed already.
    let _ = ring::default_provider().install_default();
    // By HTTP/2, an alert would come as a text.
    let builder = reqwest::Client::builder().http1_only().no_proxy().timeout(TIMEOUT);
    let builder = builder.tls_danger_accept_invalid_certs(true);
    // A container may have no /etc/hosts. The port is that of the URL.
    let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
    let builder = builder.resolve_to_addrs("localhost", &loopback);
    match &target.unix_socket {
        Some(path) => builder.unix_socket(path.as_path()),
        None => builder,
    }
    .build()
}
