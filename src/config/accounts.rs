//! The accounts, and the settings that each may set anew.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use url::Url;

use super::{
    files,
    problem::Reported,
    section::{Section, Taken},
};
use crate::account::{
    Account, AppId, Credential, Endpoint, Language, PollPolicy, Proxy, Secret, Transport, Unit, Units, UserId,
};

/// The vendor's international site.
const DEFAULT_ENDPOINT: &str = "https://intl.myhuaweicloud-koodrive.com";
const DEFAULT_INTERVAL: Duration = Duration::from_mins(1);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Values are shown for this many intervals unless `max_age` says otherwise.
const DEFAULT_MAX_AGE_INTERVALS: u32 = 3;
/// A token dies after 20 minutes without a call (the vendor's page on tokens).
const TOKEN_LIFETIME: Duration = Duration::from_mins(20);

/// The settings that stand at the top and can be set again under an account.
pub(super) struct Defaults {
    endpoint: Taken<Endpoint>,
    language: Taken<Language>,
    units: [Taken<Unit>; 3],
    interval: Taken<Duration>,
    timeout: Taken<Duration>,
    max_age: Taken<Duration>,
    transport: (Taken<Proxy>, Taken<Vec<u8>>),
}

impl Defaults {
    /// Takes them out of a section; `concurrency` is `poll`'s one key that is for the top alone.
    pub(super) fn take(section: &mut Section<'_>) -> Self {
        let mut poll = section.section("poll");
        let defaults = Self::take_with_poll(section, &mut poll);
        poll.finish();
        defaults
    }

    pub(super) fn take_with_poll(section: &mut Section<'_>, poll: &mut Section<'_>) -> Self {
        let endpoint = section.take_string("endpoint", Endpoint::parse);
        let language = section.take_string("language", Language::parse);
        let [interval, timeout, max_age] = ["interval", "timeout", "max_age"].map(|key| poll.take(key, duration));
        let mut units = section.section("units");
        let taken_units = [
            units.take("total_capacity", byte_unit),
            units.take("total_used", byte_unit),
            units.take("total_allocation", Unit::parse),
        ];
        units.finish();
        let mut http = section.section("http");
        let proxy = http.take_string("proxy_url", proxy);
        let roots = http.take_path("ca_file").and_then(|path| extra_roots(&http, path));
        http.finish();
        Self { endpoint, language, units: taken_units, interval, timeout, max_age, transport: (proxy, roots) }
    }
}

/// Takes one account out of its section.
pub(super) fn account(alias: &str, mut section: Section<'_>, defaults: &Defaults) -> Result<Arc<Account>, Reported> {
    let label = label(alias).map_err(|error| section.problem("", error));
    let own = Defaults::take(&mut section);
    let user_id = section.take_string("user_id", UserId::parse);
    let user_id = user_id.and_then(|id| id.ok_or_else(|| section.problem("user_id", "is missing")));
    let mut auth = section.section("auth");
    let credential = credential(&mut auth);
    auth.finish();
    let poll = poll_policy(&section, &own, defaults);
    if let (Ok(Credential::Token { .. }), Ok(PollPolicy { interval, .. })) = (&credential, &poll)
        && *interval >= TOKEN_LIFETIME
    {
        section.problem(
            "poll.interval",
            "must be below 20 minutes with a token, which dies after 20 minutes without a call",
        );
    }
    section.finish();

    let endpoint = inherit(&own.endpoint, &defaults.endpoint)?.map_or_else(|| Endpoint::parse(DEFAULT_ENDPOINT), Ok);
    let endpoint = endpoint.map_err(|_| Reported)?;
    let proxy = inherit(&own.transport.0, &defaults.transport.0)?.unwrap_or_default();
    let [capacity, used, allocation] = &own.units;
    let [default_capacity, default_used, default_allocation] = &defaults.units;
    let unit = |own, default| Ok(inherit(own, default)?.unwrap_or(Unit::KB));
    Ok(Arc::new(Account {
        alias: label?,
        user_id: user_id?,
        language: inherit(&own.language, &defaults.language)?.unwrap_or_default(),
        credential: credential?,
        units: Units {
            total_capacity: unit(capacity, default_capacity)?,
            total_used: unit(used, default_used)?,
            total_allocation: unit(allocation, default_allocation)?,
        },
        poll: poll?,
        transport: Transport {
            // What is sent in the clear stays on this host.
            proxy: if endpoint.is_plain() { Proxy::Direct } else { proxy },
            extra_roots: inherit(&own.transport.1, &defaults.transport.1)?.unwrap_or_default(),
        },
        endpoint,
    }))
}

fn inherit<T: Clone>(own: &Taken<T>, default: &Taken<T>) -> Taken<T> {
    match own {
        Ok(None) => default.clone(),
        own => own.clone(),
    }
}

/// An account that sets its own interval alone gets the default age for it, and a timeout that fits.
fn poll_policy(section: &Section<'_>, own: &Defaults, defaults: &Defaults) -> Result<PollPolicy, Reported> {
    let interval = inherit(&own.interval, &defaults.interval)?.unwrap_or(DEFAULT_INTERVAL);
    let own_interval = matches!(own.interval, Ok(Some(_)));
    let timeout = match (own.timeout?, defaults.timeout?) {
        (Some(timeout), _) => timeout,
        (None, Some(timeout)) if !own_interval => timeout,
        (None, inherited) => inherited.unwrap_or(DEFAULT_TIMEOUT).min(interval),
    };
    let max_age = match (own.max_age?, defaults.max_age?) {
        (Some(max_age), _) => max_age,
        (None, Some(max_age)) if !own_interval => max_age,
        (None, _) => interval * DEFAULT_MAX_AGE_INTERVALS,
    };
    if timeout > interval {
        return Err(section.problem("poll.timeout", "must not be longer than poll.interval"));
    }
    if max_age < interval + timeout {
        let message = "must be at least poll.interval plus poll.timeout, or values would vanish between polls";
        return Err(section.problem("poll.max_age", message));
    }
    Ok(PollPolicy { interval, timeout, max_age })
}

fn credential(auth: &mut Section<'_>) -> Result<Credential, Reported> {
    let kind = auth.take("type", |text| match text {
        "app" | "token" => Ok(text.to_owned()),
        _ => Err("must be app or token"),
    })?;
    match kind.as_deref() {
        Some("app") => {
            let app_id = auth.take_string("app_id", AppId::parse);
            let app_id = app_id.and_then(|id| id.ok_or_else(|| auth.problem("app_id", "is missing")));
            let secret = secret(auth, "app_secret", "app_secret_file");
            Ok(Credential::App { app_id: app_id?, secret: secret? })
        }
        Some(_) => {
            let token = secret(auth, "token", "token_file");
            let prefix = auth.take_string("token_prefix", |text| match text {
                "Bearer " | "Bearer+" | "" => Ok(text.to_owned()),
                _ => Err("must be \"Bearer \", \"Bearer+\" or empty"),
            });
            Ok(Credential::Token { token: token?, prefix: prefix?.unwrap_or_else(|| "Bearer ".to_owned()) })
        }
        None => {
            Err(auth.problem("type", "is missing: app (with app_id and app_secret_file) or token (with token_file)"))
        }
    }
}

fn secret(auth: &mut Section<'_>, inline: &'static str, file: &'static str) -> Result<Secret, Reported> {
    let both = auth.has(inline) && auth.has(file);
    let (given, path) = (auth.take_string(inline, Secret::inline), auth.take_path(file));
    if both {
        return Err(auth.problem(inline, format!("and {file} are two forms of one secret: give one of them")));
    }
    match (given?, path?) {
        (Some(secret), _) => Ok(secret),
        (None, Some(path)) => Ok(Secret::File(path)),
        (None, None) => Err(auth.problem(file, format!("is missing (or {inline}, for the secret itself)"))),
    }
}

fn label(alias: &str) -> Result<String, &'static str> {
    if alias.is_empty() || alias.chars().count() > 128 || alias.chars().any(char::is_control) {
        Err("must be a name of 1 to 128 characters, none of them a control character")
    } else {
        Ok(alias.to_owned())
    }
}

/// A length of time above zero, such as `60s`, `5m` or `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const SHAPE: &str = "must be a length of time above zero with its unit, such as 60s, 5m or 1h30m";
    let parsed: SignedDuration = text.parse().map_err(|_| SHAPE)?;
    let duration = Duration::try_from(parsed).map_err(|_| SHAPE)?;
    match duration.as_millis() {
        0 => Err(SHAPE),
        // Beyond any use, and far from where adding up lengths of time could overflow.
        millis if millis > 366 * 24 * 60 * 60 * 1000 => Err("must be at most a year"),
        _ => Ok(duration),
    }
}

fn byte_unit(text: &str) -> Result<Unit, &'static str> {
    match Unit::parse(text) {
        Ok(Unit::Count) | Err(_) => Err("must be one of B, KB, MB, GB, TB"),
        unit => unit,
    }
}

fn proxy(text: &str) -> Result<Proxy, &'static str> {
    if text == "none" {
        return Ok(Proxy::Direct);
    }
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Proxy::Url(url)),
        _ => Err("must be a URL such as http://proxy.example:3128, or none"),
    }
}

fn extra_roots(http: &Section<'_>, path: Option<std::path::PathBuf>) -> Taken<Vec<u8>> {
    let Some(path) = path else { return Ok(None) };
    let pem = files::read(&path).map_err(|error| http.problem("ca_file", format!("cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    let good = CertificateDer::pem_slice_iter(&pem).all(|root| root.is_ok_and(|root| roots.add(root).is_ok()));
    if good && !roots.is_empty() {
        Ok(Some(pem))
    } else {
        Err(http.problem("ca_file", "must hold PEM certificates (-----BEGIN CERTIFICATE-----), all of them good"))
    }
}
