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

impl Default for Web {
    fn default() -> Self {
        let options = Options {
            listen_addresses: vec![ListenAddress::Tcp(SocketAddr::from(([0u16; 8], 10710)))],
            namespace: Some("koodrive_exporter".to_owned()),
            realm: "koodrive-exporter".to_owned(),
            ..Options::default()
        };
        Self { options, enable_lifecycle: false, runbook_url: None }
    }
}

pub(super) fn web(mut section: Section<'_>) -> Result<Web, Reported> {
    let addresses = section.take_list("listen_addresses", "Where the exporter listens.", str::parse::<ListenAddress>);
    if matches!(&addresses, Ok(Some(addresses)) if addresses.is_empty()) {
        section.problem("listen_addresses", "is empty: at least one address is needed");
    }
    let systemd_socket = section.take(
        "systemd_socket",
        "Whether the exporter listens on the sockets that systemd passes, and on nothing if there are none.",
        boolean,
    );
    let paths = paths(&mut section);
    let file = file(&mut section);
    let health_without_password = section.take(
        "health_without_password",
        "Whether the health paths need no password where `config_file` asks for one.",
        boolean,
    );
    let enable_lifecycle = section.take("enable_lifecycle", "Whether POST and PUT `/-/reload` are allowed.", boolean);
    let runbook_url = section.take(
        "runbook_url",
        "The URL under which the runbooks are, as in the alerts' annotations; the status page links to them.",
        external_url,
    );
    let max_requests = section.take(
        "max_requests",
        "Requests that may wait for a page at once; a further one gets status 503.",
        |text| match text.parse() {
            Ok(requests @ 0..=100_000) => Ok((requests > 0).then_some(requests)),
            _ => Err("must be a number of requests from 0 (unlimited) to 100000"),
        },
    );
    let max_connections = section.take(
        "max_connections",
        "Connections that may be open; when one more arrives, the one that has waited longest is closed.",
        |text| match text.parse() {
            Ok(connections @ 1..=100_000) => Ok(connections),
            _ => Err("must be a number of connections from 1 to 100000"),
        },
    );
    section.finish();
    let Web { options: default, enable_lifecycle: default_lifecycle, .. } = Web::default();
    let options = Options {
        listen_addresses: addresses?.unwrap_or(default.listen_addresses),
        systemd_socket: systemd_socket?.unwrap_or(default.systemd_socket),
        paths: paths?,
        web_config: file?,
        health_without_password: health_without_password?.unwrap_or(default.health_without_password),
        max_requests: max_requests?.unwrap_or(default.max_requests),
        max_connections: max_connections?.unwrap_or(default.max_connections),
        ..default
    };
    let runbook_url = runbook_url?.map(|url| url.as_str().trim_end_matches('/').to_owned());
    Ok(Web { options, enable_lifecycle: enable_lifecycle?.unwrap_or(default_lifecycle), runbook_url })
}

fn file(section: &mut Section<'_>) -> Taken<WebConfig> {
    let Some(path) = section.take_path("config_file", "TLS, passwords and headers: see below.")? else {
        return Ok(None);
    };
    WebConfig::load(&path).map(Some).map_err(|problems| section.problems(problems))
}

/// As Prometheus does it, the prefix is the external URL's path unless it is given.
fn paths(section: &mut Section<'_>) -> Result<Paths, Reported> {
    let telemetry = section.take("telemetry_path", "Where the exposition is.", telemetry_path);
    let prefix = section.take(
        "route_prefix",
        "What the paths of requests begin with; the path of `external_url` unless set.",
        route_prefix,
    );
    let external = section.take(
        "external_url",
        "The URL under which others reach the exporter, behind a reverse proxy; links are made from it.",
        external_url,
    );
    let (prefix, external) = (prefix?, external?);
    let external_path = |url: &Url| url.path().trim_end_matches('/').to_owned();
    let prefix = prefix.unwrap_or_else(|| external.as_ref().map(external_path).unwrap_or_default());
    let links = external.map_or_else(|| prefix.clone(), |url| url.as_str().trim_end_matches('/').to_owned());
    Ok(Paths { telemetry: telemetry?.unwrap_or(Paths::default().telemetry), prefix, links })
}

/// Whether a request and a link can have it as their path.
fn is_path(text: &str) -> bool {
    let sendable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'<' | b'>');
    text.starts_with('/') && text.bytes().all(sendable)
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

fn external_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && is_path(url.path()));
    let plain = |url: &Url| {
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
    };
    url.filter(plain).ok_or("must be an http or https URL without user, query and fragment")
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
        assert!(route_prefix("a").is_err() && route_prefix("").is_err() && route_prefix("/a?").is_err());
    }
}
