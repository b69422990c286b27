//! `healthcheck`: whether a running exporter is healthy, for containers that have neither shell nor curl.

use std::{net::SocketAddr, time::Duration};

use exporter_toolkit::{ListenAddress, Options};
use rustls::crypto::ring;

const TIMEOUT: Duration = Duration::from_secs(3);

/// The health page of the first address that is listened on, from this host.
#[must_use]
pub fn url(web: &Options) -> String {
    let tcp = web.listen_addresses.iter().find_map(|address| match address {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Unix(_) => None,
    });
    let address = match tcp.unwrap_or(SocketAddr::from(([0u16; 8], 10710))) {
        address if address.ip().is_unspecified() => format!("localhost:{}", address.port()),
        address => address.to_string(),
    };
    let scheme = if web.web_config.as_ref().is_some_and(|file| file.tls.is_some()) { "https" } else { "http" };
    format!("{scheme}://{address}{}/-/healthy", web.paths.prefix)
}

/// Asks the page at `url`.
///
/// The certificate is not looked at: nothing secret is sent, and the exporter's name is hardly `localhost`.
///
/// # Errors
/// Why the exporter is not healthy, as far as can be told.
pub async fn ask(url: &str) -> Result<(), String> {
    let client = client().map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    let answer =
        client.get(url).send().await.map_err(|error| format!("cannot reach the exporter: {}", cause(&error)))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("the exporter answers {status}")) }
}

/// The innermost of an error's causes, which says what happened.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn client() -> reqwest::Result<reqwest::Client> {
    // Fails only where it is installed already.
    let _ = ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(TIMEOUT).tls_danger_accept_invalid_certs(true).build()
}
