//! `healthcheck`: whether a running exporter is healthy, for containers that have neither shell nor curl.

use std::time::Duration;

use rustls::crypto::ring;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the page at `url`.
///
/// The certificate is not looked at: nothing secret is sent, and the exporter's name is hardly `localhost`.
///
/// # Errors
/// Why the exporter is not healthy, as far as can be told.
pub async fn ask(url: &str) -> Result<(), String> {
    let client = client().map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    let answer = client.get(url).send().await.map_err(|error| format!("cannot reach {url}: {}", cause(&error)))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("{url} answers {status}")) }
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
