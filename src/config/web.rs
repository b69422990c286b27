//! The listener's part of the configuration.

use std::net::SocketAddr;

use exporter_toolkit::{
    ListenAddress, Options, Paths, WebConfig,
    settings::{Reported, Section, Taken, boolean},
};
use url::Url;

/// The listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// How pages are served.
    pub options: Options,
    /// Whether a request may have the configuration reloaded.
    pub enable_lifecycle: bool,
    /// What the addresses of the runbooks begin with, without a `/` at its end.
    pub runbook_url: Option<String>,
}

pub(super) fn web(mut section: Section<'_>) -> Result<Web, Reported> {
    let default = Options::default();
    let addresses = listen_addresses(&mut section);
    let systemd_socket = section.take_or(
        "systemd_socket",
        "false",
        "Whether to listen on the sockets that systemd passes, and on no address.",
        boolean,
    );
    let paths = paths(&mut section);
    let file = file(&mut section);
    let health_without_password = section.take_or(
        "health_without_password",
        "true",
        "Whether the health paths need no password where `config_file` asks for one.",
        boolean,
    );
    let enable_lifecycle =
        section.take_or("enable_lifecycle", "false", "Whether POST and PUT `/-/reload` are allowed.", boolean);
    let runbook_url = section.take(
        "runbook_url",
        "URL of the runbooks, as in the alerts' annotations; the status page links to them.",
        external_url,
    );
    section.show("runbook_url", if let Ok(Some(url)) = &runbook_url { url } else { "none" });
    let max_requests = section.take_or(
        "max_requests",
        &default.max_requests.unwrap_or(0).to_string(),
        "Requests that may wait for a page at once; a further one gets status 503.",
        |text| match text.parse() {
            Ok(requests @ 0..=100_000) => Ok((requests > 0).then_some(requests)),
            _ => Err("must be a number of requests from 0 (unlimited) to 100000"),
        },
    );
    let max_connections = section.take_or(
        "max_connections",
        &default.max_connections.to_string(),
        "Connections that may be open; at the limit, the longest waiting one is closed, of a client with more than a quarter of them if there is one.",
        |text| match text.parse() {
            Ok(connections @ 1..=100_000) => Ok(connections),
            _ => Err("must be a number of connections from 1 to 100000"),
        },
    );
    section.finish();
    let options = Options {
        listen_addresses: addresses?,
        systemd_socket: systemd_socket?,
        paths: paths?,
        web_config: file?,
        health_without_password: health_without_password?,
        max_requests: max_requests?,
        max_connections: max_connections?,
        namespace: Some("koodrive_exporter".to_owned()),
        realm: "koodrive-exporter".to_owned(),
        ..default
    };
    let runbook_url = runbook_url?;
    Ok(Web { options, enable_lifecycle: enable_lifecycle?, runbook_url })
}

fn listen_addresses(section: &mut Section<'_>) -> Result<Vec<ListenAddress>, Reported> {
    let taken = section.take_list("listen_addresses", "Addresses to listen on.", str::parse::<ListenAddress>);
    let addresses = taken?.unwrap_or_else(|| vec![ListenAddress::Tcp(SocketAddr::from(([0u16; 8], 10710)))]);
    if addresses.is_empty() {
        return Err(section.problem("listen_addresses", "is empty: at least one address is needed"));
    }
    let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    section.show("listen_addresses", &shown.join(", "));
    Ok(addresses)
}

fn file(section: &mut Section<'_>) -> Taken<WebConfig> {
    let path = section.take_path("config_file", "TLS, passwords and headers: see below.")?;
    section.show("config_file", &path.as_ref().map_or("none".to_owned(), |path| path.display().to_string()));
    let Some(path) = path else { return Ok(None) };
    WebConfig::load(&path).map(Some).map_err(|problems| section.problems(problems))
}

/// As Prometheus does it, the prefix is the external URL's path unless it is given.
fn paths(section: &mut Section<'_>) -> Result<Paths, Reported> {
    let telemetry =
        section.take_or("telemetry_path", &Paths::default().telemetry, "Path of the metrics.", telemetry_path);
    let prefix = section.take(
        "route_prefix",
        "Prefix of the paths of all requests; the path of `external_url` by default.",
        route_prefix,
    );
    let external = section.take(
        "external_url",
        "URL of the exporter as others reach it, behind a reverse proxy; links are made from it.",
        external_url,
    );
    let (prefix, external) = (prefix?, external?);
    let external_path = |url: &String| Url::parse(url).map(|url| url.path().trim_end_matches('/').to_owned());
    let prefix = prefix.or_else(|| external_path(external.as_ref()?).ok()).unwrap_or_default();
    section.show("route_prefix", &format!("{prefix}/"));
    section.show("external_url", external.as_deref().unwrap_or("none"));
    let links = external.unwrap_or_else(|| prefix.clone());
    Ok(Paths { telemetry: telemetry?, prefix, links })
}

/// Whether a request and a link can have it as their path: two slashes would begin the name of a host.
fn is_path(text: &str) -> bool {
    let sendable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'<' | b'>');
    text.starts_with('/') && !text.starts_with("//") && text.bytes().all(sendable)
}

fn telemetry_path(text: &str) -> Result<String, &'static str> {
    let taken = ["/", "/health"].contains(&text) || text.starts_with("/-/");
    if is_path(text) && !taken {
        Ok(text.to_owned())
    } else {
        Err("must be a path such as /metrics, and none of /, /health and /-/...")
    }
}

fn route_prefix(text: &str) -> Result<String, &'static str> {
    if is_path(text) { Ok(text.trim_end_matches('/').to_owned()) } else { Err("must be a path such as /koodrive") }
}

/// A URL without a `/` at its end.
fn external_url(text: &str) -> Result<String, &'static str> {
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && is_path(url.path()));
    let plain = |url: &Url| {
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
    };
    let url = url.filter(plain).ok_or("must be an http or https URL without user, query and fragment")?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_url_is_one_that_links_can_begin_with() {
        assert!(external_url("https://example.org/koodrive/").is_ok());
        for text in ["example.org", "ftp://example.org", "https://a:b@example.org", "https://example.org/?a", "/a"] {
            assert!(external_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_has_no_slash_at_its_end() {
        assert_eq!(route_prefix("/"), Ok(String::new()));
        assert_eq!(route_prefix("/a/b/"), Ok("/a/b".to_owned()));
        assert!(route_prefix("//example.org/").is_err());
        assert!(route_prefix("a").is_err() && route_prefix("").is_err() && route_prefix("/a?").is_err());
    }
}
