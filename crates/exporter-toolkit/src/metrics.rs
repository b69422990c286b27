//! The metrics of the server itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    encoder::{Encoder, Kind, float},
    lock,
};

/// The `handler` label of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Handler {
    /// The metrics.
    Metrics,
    /// The landing page.
    Status,
    /// `/-/healthy` and `/health`.
    Healthy,
    /// `/-/ready`.
    Ready,
    /// `/-/reload`.
    Reload,
    /// Everything else.
    Other,
}

impl Handler {
    const ALL: [Self; 6] = [Self::Metrics, Self::Status, Self::Healthy, Self::Ready, Self::Reload, Self::Other];

    fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Status => "status",
            Self::Healthy => "healthy",
            Self::Ready => "ready",
            Self::Reload => "reload",
            Self::Other => "other",
        }
    }
}

/// A family of the server's metrics, whose name follows the exporter's namespace.
#[derive(Debug, Clone, Copy)]
pub struct ServerFamily {
    /// Its name behind the namespace.
    pub name: &'static str,
    /// `gauge` or `counter`.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

const REQUESTS: ServerFamily = ServerFamily {
    name: "http_requests_total",
    kind: Kind::Counter,
    labels: &["code", "handler"],
    help: "HTTP requests to the exporter by handler and status code.",
};
const CONNECTIONS: ServerFamily =
    ServerFamily { name: "http_connections", kind: Kind::Gauge, labels: &[], help: "Open connections." };
const OVER_BOUND: ServerFamily = ServerFamily {
    name: "http_connections_over_bound_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Connections closed to make room for new ones.",
};
const WEB_CONFIG: ServerFamily = ServerFamily {
    name: "web_config_last_reload_successful",
    kind: Kind::Gauge,
    labels: &[],
    help: "Result of the latest load of the web configuration file and the files it names: 1 for success, 0 for failure; absent without such a file.",
};
const WEB_CONFIG_FAILURES: ServerFamily = ServerFamily {
    name: "web_config_reload_failures_total",
    kind: Kind::Counter,
    labels: &[],
    help: "Failed reloads of the web configuration file; absent without such a file.",
};
const CERTIFICATE_EXPIRY: ServerFamily = ServerFamily {
    name: "tls_certificate_expiry_timestamp_seconds",
    kind: Kind::Gauge,
    labels: &[],
    help: "Unix time at which the listener's certificate expires; absent without TLS.",
};

/// All families of the server's metrics.
pub const SERVER_FAMILIES: [ServerFamily; 6] =
    [CONNECTIONS, OVER_BOUND, REQUESTS, CERTIFICATE_EXPIRY, WEB_CONFIG, WEB_CONFIG_FAILURES];

/// The metrics of a server.
#[derive(Debug)]
pub(crate) struct ServerMetrics {
    requests: Mutex<BTreeMap<(Handler, u16), u64>>,
    /// Held once by each open connection.
    open: Arc<()>,
    over_bound: AtomicU64,
    web_config: Mutex<Option<WebConfigState>>,
}

impl Default for ServerMetrics {
    fn default() -> Self {
        let requests = Mutex::new(Handler::ALL.map(|handler| ((handler, 200), 0)).into());
        Self { requests, open: Arc::default(), over_bound: AtomicU64::new(0), web_config: Mutex::default() }
    }
}

/// How a web configuration file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebConfigState {
    /// Whether the latest reading succeeded.
    pub successful: bool,
    /// How many readings failed.
    pub failures: u64,
    /// When the certificate in use expires, in Unix time.
    pub certificate_expiry: Option<i64>,
}

impl ServerMetrics {
    /// Counts an answered request.
    pub(crate) fn answered(&self, handler: Handler, status: u16) {
        *lock(&self.requests).entry((handler, status)).or_default() += 1;
    }

    /// Counts a connection as open until what this returns is dropped.
    pub(crate) fn connection_open(&self) -> Arc<()> {
        Arc::clone(&self.open)
    }

    /// Counts a connection that came when no more may be open.
    pub(crate) fn connection_over_bound(&self) {
        self.over_bound.fetch_add(1, Ordering::Relaxed);
    }

    /// The web configuration file was read; `certificate_expiry` is that of the certificate in use.
    pub(crate) fn web_config_read(&self, successful: bool, certificate_expiry: Option<i64>) {
        let mut web_config = lock(&self.web_config);
        let failures = web_config.map_or(0, |before| before.failures) + u64::from(!successful);
        *web_config = Some(WebConfigState { successful, failures, certificate_expiry });
    }

    /// How the web configuration file was read; `None` without one.
    pub(crate) fn web_config(&self) -> Option<WebConfigState> {
        *lock(&self.web_config)
    }

    /// Writes the families, with names that begin with `namespace`.
    pub(crate) fn write(&self, namespace: &str, encoder: &mut Encoder) {
        let mut one = |family: ServerFamily, value: f64| {
            encoder.family(&format!("{namespace}_{}", family.name), family.kind, family.help).sample(
                "",
                b"",
                [],
                value,
            );
        };
        one(CONNECTIONS, float(Arc::strong_count(&self.open) as u64 - 1));
        one(OVER_BOUND, float(self.over_bound.load(Ordering::Relaxed)));
        if let Some(read) = self.web_config() {
            one(WEB_CONFIG, f64::from(u8::from(read.successful)));
            one(WEB_CONFIG_FAILURES, float(read.failures));
            #[expect(clippy::cast_precision_loss, reason = "certificates end within the range of exact floats")]
            if let Some(expiry) = read.certificate_expiry {
                one(CERTIFICATE_EXPIRY, expiry as f64);
            }
        }
        let name = format!("{namespace}_{}", REQUESTS.name);
        let mut requests = encoder.family(&name, REQUESTS.kind, REQUESTS.help);
        for ((handler, status), count) in lock(&self.requests).iter() {
            let status = status.to_string();
            requests.sample("", b"", [("code", &*status), ("handler", handler.as_str())], float(*count));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{encoder::Format, output::Coding};

    fn value(metrics: &ServerMetrics, series: &str) -> Option<String> {
        let mut encoder = Encoder::new(Format::Text0, Coding::Identity);
        metrics.write("x", &mut encoder);
        let text = String::from_utf8(encoder.finish().0.concat()).unwrap();
        let of_series = |line: &str| line.strip_prefix(series)?.strip_prefix(' ').map(ToOwned::to_owned);
        text.lines().find_map(of_series)
    }

    #[test]
    fn requests_are_counted_by_page_and_status() {
        let metrics = ServerMetrics::default();
        for (handler, status) in
            [(Handler::Metrics, 200), (Handler::Metrics, 200), (Handler::Metrics, 503), (Handler::Other, 404)]
        {
            metrics.answered(handler, status);
        }
        let answered = |handler: &str, code: u16| {
            value(&metrics, &format!("x_http_requests_total{{code=\"{code}\",handler=\"{handler}\"}}"))
        };
        assert_eq!(
            [answered("metrics", 200), answered("metrics", 503), answered("other", 404)],
            ["2", "1", "1"].map(|count| Some(count.to_owned()))
        );
        assert_eq!((answered("status", 200).as_deref(), answered("status", 404)), (Some("0"), None));
    }

    #[test]
    fn connection_is_open_until_it_ends() {
        let metrics = Arc::<ServerMetrics>::default();
        let open = || value(&metrics, "x_http_connections").unwrap();
        let (one, other) = (metrics.connection_open(), metrics.connection_open());
        assert_eq!(open(), "2");
        drop(one);
        assert_eq!(open(), "1");
        drop(other);
        metrics.connection_over_bound();
        assert_eq!(
            (open().as_str(), value(&metrics, "x_http_connections_over_bound_total").as_deref()),
            ("0", Some("1"))
        );
    }

    #[test]
    fn web_config_shows_the_latest_reading_and_counts_failures() {
        let metrics = ServerMetrics::default();
        let shown = || {
            [
                "web_config_last_reload_successful",
                "web_config_reload_failures_total",
                "tls_certificate_expiry_timestamp_seconds",
            ]
            .map(|name| value(&metrics, &format!("x_{name}")).unwrap_or_else(|| "absent".to_owned()))
        };
        assert_eq!(shown(), ["absent", "absent", "absent"]);
        metrics.web_config_read(true, Some(7));
        assert_eq!(shown(), ["1", "0", "7"]);
        metrics.web_config_read(false, None);
        assert_eq!(shown(), ["0", "1", "absent"]);
        metrics.web_config_read(false, Some(8));
        assert_eq!(shown(), ["0", "2", "8"]);
    }
}
