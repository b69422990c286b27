//! The web configuration file: TLS, headers, passwords and a rate limit, with the keys of the Prometheus
//! exporter toolkit (`docs/web-configuration.md` there), so that a file which serves another exporter works here.

mod tls_server;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bcrypt::HashParts;
use hyper::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
pub use tls_server::{AllowedSan, ClientAuth, TlsServer, TlsVersion};

use crate::settings::{self, Document, Key, Problems, Report, Reported, Section, Taken, boolean};

/// To check a password of a higher cost (2 to the cost is the number of rounds) outlasts a scrape.
const MAX_QUICK_BCRYPT_COST: u32 = 16;

/// The headers that can be set, and what each may say; nothing named is anything.
const HEADERS: [(&str, &[&str]); 5] = [
    ("content-security-policy", &[]),
    ("x-frame-options", &["deny", "sameorigin"]),
    ("x-content-type-options", &["nosniff"]),
    ("x-xss-protection", &[]),
    ("strict-transport-security", &[]),
];

/// What the file says, and what the files that it names held. The default is that of no file, which asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebConfig {
    /// The file itself.
    pub path: PathBuf,
    /// Without it, connections are plain.
    pub tls: Option<TlsServer>,
    /// Whether HTTP/2 is offered to clients that come by TLS.
    pub http2: bool,
    /// Set on every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Where there is any, each request needs one of them.
    pub users: BTreeMap<String, PasswordHash>,
    /// The bound on requests over time.
    pub rate_limit: Option<RateLimit>,
}

/// A bcrypt hash, which no `Debug` shows.
#[derive(Debug, Clone)]
pub struct PasswordHash(SecretString);

impl PasswordHash {
    /// The hash in its modular crypt form.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// How many rounds it takes, as a power of 2.
    #[must_use]
    pub fn cost(&self) -> u32 {
        HashParts::from_str(self.expose()).map_or(0, |parts| parts.get_cost())
    }
}

impl PartialEq for PasswordHash {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for PasswordHash {}

/// A token bucket: `burst` requests at once, and one more each `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Above 0.
    pub interval: Duration,
    /// At least 1.
    pub burst: u32,
}

impl WebConfig {
    /// Reads the file and the files that it names.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let document = Document::read_yaml(path).map_err(|problem| Problems(vec![problem]))?;
        let report = Report::default();
        let file = read(path, Section::root(&document, &report));
        report.conclude(file)
    }

    /// What works, and hardly as it was meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(tls) = &self.tls {
            if !tls.not_offered.is_empty() {
                warnings.push(format!(
                    "tls_server_config lists unsupported cipher suites or curves: {}",
                    tls.not_offered.join(", ")
                ));
            }
            if tls.client_auth.verifies() && tls.client_ca.is_empty() {
                let warning = "tls_server_config has no client_ca_file: a client's certificate may be one of any \
                               authority that the system trusts";
                warnings.push(warning.to_owned());
            }
        }
        let slow = self.users.iter().filter(|(_, hash)| hash.cost() > MAX_QUICK_BCRYPT_COST);
        warnings.extend(slow.map(|(name, hash)| {
            format!("basic_auth_users has a bcrypt cost of {} for {name:?}: a check takes longer than a scrape, use a cost of 10", hash.cost())
        }));
        warnings
    }

    /// The keys that are looked for in a file with TLS, in that order.
    #[must_use]
    pub fn keys() -> Vec<Key> {
        let root = settings::of_yaml("tls_server_config: { min_version: TLS12 }", None).unwrap_or_default();
        let (document, report) = (Document { root, file: None, environment_prefix: "" }, Report::of_keys());
        let _ = read(Path::new(""), Section::root(&document, &report));
        report.into_keys()
    }
}

fn read(path: &Path, mut root: Section<'_>) -> Result<WebConfig, Reported> {
    let tls_server = root.section("tls_server_config");
    let tls = if tls_server.is_empty() { Ok(None) } else { tls_server::tls(tls_server).map(Some) };
    let http2 = root.take("http_server_config.http2", "Whether HTTP/2 is offered over TLS; true by default.", boolean);
    let headers = root.take_map(
        "http_server_config.headers",
        "Set on every answer: `Content-Security-Policy`, `X-Frame-Options`, `X-Content-Type-Options`, \
         `X-XSS-Protection`, `Strict-Transport-Security`.",
        header,
    );
    let users = root.take_map(
        "basic_auth_users",
        "Users and the bcrypt hashes of their passwords; where there is any, each request needs one.",
        |name, hash| match name.find(':') {
            Some(_) => Err("has a user whose name contains a colon, which no client can send"),
            None => Ok((name.to_owned(), password_hash(hash)?)),
        },
    );
    let rate_limit = rate_limit(&mut root);
    root.finish();
    Ok(WebConfig {
        path: path.to_owned(),
        tls: tls?,
        http2: http2?.unwrap_or(true),
        headers: headers?.unwrap_or_default().into_iter().flatten().collect(),
        users: users?.unwrap_or_default().into_iter().collect(),
        rate_limit: rate_limit?,
    })
}

/// A header that is blank is not set.
fn header(name: &str, value: &str) -> Result<Option<(HeaderName, HeaderValue)>, String> {
    let known = HEADERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let Some((name, values)) = known else {
        let names: Vec<_> = HEADERS.iter().map(|(name, _)| *name).collect();
        return Err(format!("has a header that cannot be set; those that can: {}", names.join(", ")));
    };
    if value.is_empty() {
        return Ok(None);
    }
    if !values.is_empty() && !values.iter().any(|allowed| allowed.eq_ignore_ascii_case(value)) {
        return Err(format!("has {name} with a value that is not {}", values.join(" or ")));
    }
    let value =
        HeaderValue::from_str(value).map_err(|_| format!("has {name} with a value that is invalid in a header"))?;
    Ok(Some((HeaderName::from_static(name), value)))
}

fn password_hash(text: &str) -> Result<PasswordHash, &'static str> {
    match HashParts::from_str(text) {
        Ok(parts) if (4..=31).contains(&parts.get_cost()) => Ok(PasswordHash(SecretString::from(text))),
        _ => Err("has a password that is no bcrypt hash: make one with htpasswd -nBC 10 \"\""),
    }
}

fn rate_limit(root: &mut Section<'_>) -> Taken<RateLimit> {
    let interval = root.take("rate_limit.interval", "Time after which one more request is allowed.", |text| {
        let is_zero = text.trim_end_matches(char::is_alphabetic) == "0";
        if is_zero { Ok(Duration::ZERO) } else { settings::duration(text) }
    });
    let burst = root.take("rate_limit.burst", "Number of requests that are allowed at once.", |text| {
        text.parse::<u32>().map_err(|_| "must be a number of requests")
    });
    match (interval?, burst?) {
        (None | Some(Duration::ZERO), _) => Ok(None),
        (Some(interval), Some(burst @ 1..)) => Ok(Some(RateLimit { interval, burst })),
        (Some(_), Some(_)) => Err(root.problem("rate_limit.burst", "must be at least 1")),
        (Some(_), None) => Err(root.problem("rate_limit.burst", "is missing: how many requests may come at once")),
    }
}

#[cfg(test)]
mod tests;
