//! The accounts, and the settings that each may set for itself.

use std::{path::PathBuf, sync::Arc, time::Duration};

use exporter_toolkit::{
    files,
    settings::{Reported, Section, Taken, duration, is_visible},
};
use koodrive::{
    AppId, Credential, Endpoint, Language, Proxy, Secret, SecretSource, Transport, UserId, overview::OVERVIEW,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{
    collectors::{Collectors, DEFAULT_MAX_AGE_INTERVALS, inherit},
    proxy::{self, EnvironmentProxy},
};
use crate::account::{Account, PollPolicy};

/// The keys of an account, by which they are read and shown.
pub(super) const ENDPOINT: &str = "endpoint";
pub(super) const LANGUAGE: &str = "language";
pub(super) const USER_ID: &str = "user_id";
pub(super) const AUTH_TYPE: &str = "auth.type";
pub(super) const APP_ID: &str = "auth.app_id";
pub(super) const TOKEN_PREFIX: &str = "auth.token_prefix";
pub(super) const INTERVAL: &str = "poll.interval";
pub(super) const TIMEOUT: &str = "poll.timeout";
pub(super) const MAX_AGE: &str = "poll.max_age";
pub(super) const PROXY_URL: &str = "http.proxy_url";
pub(super) const CA_FILE: &str = "http.ca_file";

/// The keys of its secret, one of which is given.
const APP_SECRET: &str = "auth.app_secret";
const APP_SECRET_FILE: &str = "auth.app_secret_file";
const TOKEN: &str = "auth.token";
const TOKEN_FILE: &str = "auth.token_file";

/// The vendor's international site.
const DEFAULT_ENDPOINT: &str = "https://intl.myhuaweicloud-koodrive.com";
const DEFAULT_INTERVAL: Duration = Duration::from_mins(1);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings that can stand at the top, for all accounts, and again under each.
pub(super) struct Common {
    endpoint: Taken<Endpoint>,
    language: Taken<Language>,
    interval: Taken<Duration>,
    timeout: Taken<Duration>,
    max_age: Taken<Duration>,
    collectors: Collectors,
    proxy: Taken<Proxy>,
    roots: Taken<(PathBuf, Arc<[u8]>)>,
}

impl Common {
    /// Takes them out of a section.
    pub(super) fn take(section: &mut Section<'_>) -> Self {
        let endpoint = section.take_string(ENDPOINT, "Base URL of the API.", Endpoint::parse);
        let language = section.take_string(LANGUAGE, "Language of the API's error messages.", Language::parse);
        let interval = section.take(INTERVAL, "Time between two polls of an account.", duration);
        let timeout =
            section.take(TIMEOUT, "Time limit of one poll, retries included; at most the interval.", duration);
        let max_age = section.take(
            MAX_AGE,
            "Maximum age of the numbers that are shown; 3 intervals by default, and at least interval plus timeout.",
            duration,
        );
        let collectors = Collectors::take(section);
        let proxy = section.take_string(
            PROXY_URL,
            "Forward proxy for HTTPS; the URL may hold a password; by default that of `HTTPS_PROXY` or `ALL_PROXY`, with \
             the exceptions of `NO_PROXY`.",
            proxy,
        );
        let ca_file = section.take_path(
            CA_FILE,
            "PEM certificates that are trusted in addition to the system's roots; read again when the file changes.",
        );
        let roots = ca_file.and_then(|path| roots(section, path));
        Self { endpoint, language, interval, timeout, max_age, collectors, proxy, roots }
    }
}

/// Takes one account out of its section, once for each of its collectors.
pub(super) fn account(
    alias: &str,
    mut section: Section<'_>,
    top: &Common,
    environment: &EnvironmentProxy,
) -> Result<Vec<Arc<Account>>, Reported> {
    let label = label(alias).map_err(|error| section.problem("", error));
    let own = Common::take(&mut section);
    let user_id = section.take_string(USER_ID, "Id of the KooDrive user whose space is polled.", UserId::parse);
    let user_id = user_id.and_then(|id| id.ok_or_else(|| section.problem(USER_ID, "is missing")));
    let credential = credential(&mut section);
    let poll = poll_policy(&section, &own, top);
    if let (Ok(Credential::Token { .. }), Ok(PollPolicy { interval, .. })) = (&credential, &poll)
        && *interval >= Credential::TOKEN_LIFETIME
    {
        section.problem(
            INTERVAL,
            "must be below 20 minutes with a token, which expires after 20 minutes without a request",
        );
    }
    let endpoint = match inherit(&own.endpoint, &top.endpoint) {
        Ok(None) => Endpoint::parse(DEFAULT_ENDPOINT).map_err(|error| section.problem(ENDPOINT, error)),
        Ok(Some(endpoint)) => Ok(endpoint),
        Err(reported) => Err(reported),
    };
    section.finish();

    let endpoint = endpoint?;
    let proxy = inherit(&own.proxy, &top.proxy)?.unwrap_or_else(|| environment.of(&endpoint.url(OVERVIEW.path)));
    let roots = inherit(&own.roots, &top.roots)?;
    let (ca_file, extra_roots) = roots.map_or((None, Arc::default()), |(path, pem)| (Some(path), pem));
    let api = koodrive::Account {
        user_id: user_id?,
        language: inherit(&own.language, &top.language)?.unwrap_or_default(),
        credential: credential?,
        units: Collectors::units(&own.collectors, &top.collectors)?,
        transport: Transport {
            // What is sent in the clear stays on this host.
            proxy: if endpoint.is_plain() { Proxy::Direct } else { proxy },
            extra_roots,
        },
        endpoint,
    };
    let (alias, api) = (label?, Arc::new(api));
    let account = |(collector, poll)| {
        Arc::new(Account { alias: alias.clone(), collector, api: Arc::clone(&api), ca_file: ca_file.clone(), poll })
    };
    let policies = Collectors::policies(&own.collectors, &top.collectors, poll?)?;
    Ok(policies.into_iter().map(account).collect())
}

/// An account that sets its own interval alone gets the default age for it, and a timeout that fits.
fn poll_policy(section: &Section<'_>, own: &Common, top: &Common) -> Result<PollPolicy, Reported> {
    let interval = inherit(&own.interval, &top.interval)?.unwrap_or(DEFAULT_INTERVAL);
    let own_interval = matches!(own.interval, Ok(Some(_)));
    let timeout = match (own.timeout?, top.timeout?) {
        (Some(timeout), _) => timeout,
        (None, Some(timeout)) if !own_interval => timeout,
        (None, inherited) => inherited.unwrap_or(DEFAULT_TIMEOUT).min(interval),
    };
    let max_age = match (own.max_age?, top.max_age?) {
        (Some(max_age), _) => max_age,
        (None, Some(max_age)) if !own_interval => max_age,
        (None, _) => interval * DEFAULT_MAX_AGE_INTERVALS,
    };
    if timeout > interval {
        return Err(section.problem(TIMEOUT, "must not be longer than poll.interval"));
    }
    if max_age < interval + timeout {
        let message = "must be at least poll.interval plus poll.timeout, or values would vanish between polls";
        return Err(section.problem(MAX_AGE, message));
    }
    Ok(PollPolicy { interval, timeout, max_age })
}

fn credential(section: &mut Section<'_>) -> Result<Credential, Reported> {
    let is_app = section.take(AUTH_TYPE, "Kind of credential.", |text| match text {
        "app" => Ok(true),
        "token" => Ok(false),
        _ => Err("must be app or token"),
    });
    match is_app {
        Ok(Some(true)) => {
            let app_id = section.take_string(APP_ID, "Public id of the application.", AppId::parse);
            let app_id = app_id.and_then(|id| id.ok_or_else(|| section.problem(APP_ID, "is missing")));
            let secret = secret(
                section,
                (APP_SECRET, "Secret of the application, for an environment variable."),
                (APP_SECRET_FILE, "File with the application's secret, read again for each poll."),
            );
            Ok(Credential::App { app_id: app_id?, secret: secret? })
        }
        Ok(Some(false)) => {
            let token = secret(
                section,
                (TOKEN, "Token, for an environment variable."),
                (TOKEN_FILE, "File with the token, which another program renews; read again for each poll."),
            );
            let prefix =
                section.take_string(TOKEN_PREFIX, "Prefix of a token that has no scheme.", |text| match text {
                    "Bearer " | "Bearer+" | "" => Ok(text.to_owned()),
                    _ => Err("must be \"Bearer \", \"Bearer+\" or empty"),
                });
            Ok(Credential::Token { token: token?, prefix: prefix?.unwrap_or_else(|| "Bearer ".to_owned()) })
        }
        Ok(None) | Err(_) => {
            section.knows(&[APP_ID, APP_SECRET, APP_SECRET_FILE, TOKEN, TOKEN_FILE, TOKEN_PREFIX]);
            is_app?;
            let message = "is missing: app (with app_id and app_secret_file) or token (with token_file)";
            Err(section.problem(AUTH_TYPE, message))
        }
    }
}

/// Takes a secret that is given inline or by a file: each with its key and what that means.
fn secret(
    section: &mut Section<'_>,
    (inline, of_inline): (&'static str, &str),
    (file, of_file): (&'static str, &str),
) -> Result<Secret, Reported> {
    let both = section.has(inline) && section.has(file);
    let is_absolute = section.text(file).is_some_and(|path| path.starts_with('/'));
    let given = section.take_string(inline, of_inline, |text| Secret::inline(inline, text));
    let path = section.take_path(file, of_file);
    if both {
        return Err(section.problem(inline, format!("and {file} are mutually exclusive: remove one of them")));
    }
    match (given?, path?) {
        (Some(secret), _) => Ok(secret),
        (None, Some(path)) => Ok(Secret { key: file, source: SecretSource::File { path, is_absolute } }),
        (None, None) => Err(section.problem(file, format!("is missing (or {inline}, for the secret itself)"))),
    }
}

fn label(alias: &str) -> Result<String, &'static str> {
    if alias.is_empty() || alias.chars().count() > 128 || !alias.chars().all(is_visible) {
        Err("must be a name of 1 to 128 characters, none of them a control character or another invisible one")
    } else {
        Ok(alias.to_owned())
    }
}

fn proxy(text: &str) -> Result<Proxy, &'static str> {
    if text == "none" {
        return Ok(Proxy::Direct);
    }
    proxy::proxy(text).map(Proxy::Url).map_err(|_| "must be a URL such as http://proxy.example:3128, or none")
}

fn roots(section: &Section<'_>, path: Option<PathBuf>) -> Taken<(PathBuf, Arc<[u8]>)> {
    let Some(path) = path else { return Ok(None) };
    let pem = files::read(&path).map_err(|error| section.unread(CA_FILE, &error))?;
    check_roots(&pem).map_err(|refusal| section.problem(CA_FILE, refusal))?;
    Ok(Some((path, pem.into())))
}

/// Whether these are certificates that can be trusted.
///
/// # Errors
/// Says what they must be.
pub fn check_roots(pem: &[u8]) -> Result<(), &'static str> {
    let mut roots = RootCertStore::empty();
    let good = CertificateDer::pem_slice_iter(pem).all(|root| root.is_ok_and(|root| roots.add(root).is_ok()));
    if good && !roots.is_empty() {
        Ok(())
    } else {
        Err("must contain PEM certificates (-----BEGIN CERTIFICATE-----), all of them valid")
    }
}
