//! The configuration as it is in force: each value, masked where it is a secret, and where it comes from.

use std::{sync::Arc, time::Duration};

use config::{Value, ValueKind};
use exporter_toolkit::settings::{COMMAND_LINE, Document, ENVIRONMENT, duration};
use jiff::SignedDuration;
use koodrive::{Credential, Proxy, Secret};

use super::{proxy::EnvironmentProxy, validated::Config};
use crate::account::Account;

/// One value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The path of its key.
    pub key: String,
    /// The value, for people; a secret shows nothing of itself.
    pub value: String,
    /// The file, the environment, a flag, or the default.
    pub origin: String,
}

/// Those of the accounts.
pub(super) fn of_accounts(config: &Config, merged: &Document, proxy: &EnvironmentProxy) -> Vec<Setting> {
    let same = config.accounts.chunk_by(|a, b| a.alias == b.alias);
    same.flat_map(|same| of_account(same, merged, proxy)).collect()
}

/// An account's, whose origin is not known any more.
pub(super) fn values(same: &[Arc<Account>]) -> Vec<Setting> {
    of_account(same, &Document::default(), &EnvironmentProxy::default())
}

/// All others, in the order of the example configuration.
pub(super) fn settings(config: &Config, merged: &Document) -> Vec<Setting> {
    let at_top = |key: &str, value: String| {
        let path: Vec<&str> = key.split('.').collect();
        Setting { key: key.to_owned(), value, origin: origin(merged, &[&path]) }
    };
    let mut settings = vec![at_top("poll.concurrency", config.concurrency.to_string())];
    let shard = config.shard.map(|shard| format!("{} of {}", shard.index(), shard.count()));
    settings.extend(shard.map(|shard| at_top("shard", shard)));
    settings.push(at_top("auto_reload", config.auto_reload.to_string()));
    let web = &config.web.options;
    let addresses: Vec<_> = web.listen_addresses.iter().map(ToString::to_string).collect();
    let file = web.web_config.as_ref().map_or("none".to_owned(), |file| file.path.display().to_string());
    settings.extend([
        at_top("web.listen_addresses", addresses.join(", ")),
        at_top("web.systemd_socket", web.systemd_socket.to_string()),
        at_top("web.telemetry_path", web.paths.telemetry.clone()),
        at_top("web.route_prefix", web.paths.landing_page()),
        at_top(
            "web.external_url",
            if web.paths.links == web.paths.prefix { "none".to_owned() } else { web.paths.links.clone() },
        ),
        at_top("web.config_file", file),
        at_top("web.health_without_password", web.health_without_password.to_string()),
        at_top("web.enable_lifecycle", config.web.enable_lifecycle.to_string()),
        at_top("web.runbook_url", config.web.runbook_url.clone().unwrap_or_else(|| "none".to_owned())),
        at_top("web.max_requests", web.max_requests.unwrap_or(0).to_string()),
        at_top("web.max_connections", web.max_connections.to_string()),
        at_top("log.level", config.log.level.as_str().to_lowercase()),
        at_top("log.format", format!("{:?}", config.log.format).to_lowercase()),
    ]);
    settings
}

/// Of one account, which comes once for each collector.
fn of_account(collectors: &[Arc<Account>], merged: &Document, proxy: &EnvironmentProxy) -> Vec<Setting> {
    let Some(account) = collectors.first() else { return Vec::new() };
    let alias = account.alias.as_str();
    let setting = |key: &str, value: String, inherited: bool| {
        let top: Vec<_> = key.split('.').collect();
        let own = [&["accounts", alias][..], &top].concat();
        let origin = if inherited { origin(merged, &[&own, &top]) } else { origin(merged, &[&own]) };
        Setting { key: format!("accounts.{alias}.{key}"), value, origin }
    };
    let inherited = |key: &str, value: String| setting(key, value, true);
    let own = |key: &str, value: String| setting(key, value, false);
    let own_interval = at(&merged.root, &["accounts", alias, "poll", "interval"]).is_some();
    let top = at(&merged.root, &["poll", "timeout"]).and_then(|top| duration(&top.kind.to_string()).ok());
    let is_cut = top.is_some_and(|top| top > account.poll.timeout);
    let ca_file = if account.api.transport.extra_roots.is_empty() { "none" } else { "given" };
    let mut settings = vec![
        inherited("endpoint", account.api.endpoint.to_string()),
        inherited("language", account.api.language.as_str().to_owned()),
        own("user_id", account.api.user_id.as_str().to_owned()),
        own("auth.type", account.api.credential.kind().to_owned()),
    ];
    let credential = &account.api.credential;
    let secret = own(credential.secret_key(), of_secret(credential.secret()));
    settings.extend(match credential {
        Credential::App { app_id, .. } => [own("auth.app_id", app_id.as_str().to_owned()), secret],
        Credential::Token { prefix, .. } => [secret, own("auth.token_prefix", format!("{prefix:?}"))],
    });
    let names: Vec<_> = collectors.iter().map(|account| account.collector.name).collect();
    settings.push(inherited("collectors", names.join(", ")));
    settings.extend([
        inherited("poll.interval", human(account.poll.interval)),
        // What goes with an interval is inherited with it alone, and a timeout as far as it fits.
        setting("poll.timeout", human(account.poll.timeout), !is_cut),
        setting("poll.max_age", human(account.poll.max_age), !own_interval),
    ]);
    for further in collectors.iter().skip(1) {
        settings.push(inherited(&format!("poll.{}.interval", further.collector.name), human(further.poll.interval)));
    }
    for Account { collector, api, .. } in collectors.iter().map(AsRef::as_ref) {
        for field in collector.fields {
            if let (Some(unit), Some(key)) = (api.units.of(collector, *field), field.unit_key(collector)) {
                settings.push(inherited(&format!("units.{key}"), unit.as_str().to_owned()));
            }
        }
    }
    settings.extend([
        of_proxy(inherited("http.proxy_url", account.api.transport.proxy.to_string()), account, proxy),
        inherited("http.ca_file", ca_file.to_owned()),
    ]);
    settings
}

/// A proxy that the configuration does not name is that of a variable.
fn of_proxy(setting: Setting, account: &Account, proxy: &EnvironmentProxy) -> Setting {
    match (&account.api.transport.proxy, &proxy.proxy) {
        (Proxy::Url(_), Some((name, _))) if setting.origin == "default" => {
            Setting { origin: format!("environment variable {name}"), ..setting }
        }
        _ => setting,
    }
}

fn of_secret(secret: &Secret) -> String {
    match secret {
        Secret::Inline(_) => "********".to_owned(),
        Secret::File { path, .. } => {
            let missing = if path.exists() { "" } else { " (no such file)" };
            format!("{}{missing}", secret.shown_path().unwrap_or_default())
        }
    }
}

fn human(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

/// Where the first of these paths that has a value gets it from.
fn origin(merged: &Document, paths: &[&[&str]]) -> String {
    let value = paths.iter().find_map(|path| at(&merged.root, path));
    match value.map(Value::origin) {
        None => "default".to_owned(),
        Some(Some(COMMAND_LINE)) => "flag".to_owned(),
        Some(Some(ENVIRONMENT)) => "environment".to_owned(),
        Some(Some(line)) => format!("file {line}"),
        Some(None) => "built in".to_owned(),
    }
}

fn at<'a>(root: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let found = path.iter().try_fold(root, |value, key| match &value.kind {
        ValueKind::Table(table) => table.get(*key),
        _ => None,
    });
    found.filter(|value| value.kind != ValueKind::Nil)
}
