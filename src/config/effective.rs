//! The accounts as they are configured: each value, masked where it is a secret, and where it comes from.

use std::{sync::Arc, time::Duration};

use config::{Value, ValueKind};
use exporter_toolkit::settings::{Document, Setting, duration, source};
use jiff::SignedDuration;
use koodrive::{Credential, Proxy, Secret, SecretSource};

use super::{
    accounts::{
        APP_ID, AUTH_TYPE, CA_FILE, ENDPOINT, INTERVAL, LANGUAGE, MAX_AGE, PROXY_URL, TIMEOUT, TOKEN_PREFIX, USER_ID,
    },
    collectors::{COLLECTORS, interval_key, unit_key},
    proxy::EnvironmentProxy,
    validated::Config,
};
use crate::account::Account;

/// Those of the accounts.
pub(super) fn of_accounts(config: &Config, merged: &Document, proxy: &EnvironmentProxy) -> Vec<Setting> {
    let same = config.accounts.chunk_by(|a, b| a.alias == b.alias);
    same.flat_map(|same| of_account(same, merged, proxy)).collect()
}

/// An account's, whose origin is not known any more.
pub(super) fn values(same: &[Arc<Account>]) -> Vec<Setting> {
    of_account(same, &Document::default(), &EnvironmentProxy::default())
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
    let is_of_top = |key: &str, used: Duration| {
        let top = at(&merged.root, &key.split('.').collect::<Vec<_>>());
        top.is_some_and(|top| duration(&top.kind.to_string()) == Ok(used))
    };
    let ca_file = if account.api.transport.extra_roots.is_empty() { "none" } else { "given" };
    let mut settings = vec![
        inherited(ENDPOINT, account.api.endpoint.to_string()),
        inherited(LANGUAGE, account.api.language.as_str().to_owned()),
        own(USER_ID, account.api.user_id.as_str().to_owned()),
        own(AUTH_TYPE, account.api.credential.kind().to_owned()),
    ];
    let credential = &account.api.credential;
    let secret = own(credential.secret().key, of_secret(credential.secret()));
    settings.extend(match credential {
        Credential::App { app_id, .. } => [own(APP_ID, app_id.as_str().to_owned()), secret],
        Credential::Token { prefix, .. } => [secret, own(TOKEN_PREFIX, format!("{prefix:?}"))],
    });
    let names: Vec<_> = collectors.iter().map(|account| account.collector.name).collect();
    settings.push(inherited(COLLECTORS, names.join(", ")));
    settings.extend([
        inherited(INTERVAL, human(account.poll.interval)),
        // What goes with an interval is inherited with it alone, and a timeout as far as it fits.
        setting(TIMEOUT, human(account.poll.timeout), is_of_top(TIMEOUT, account.poll.timeout)),
        setting(MAX_AGE, human(account.poll.max_age), is_of_top(MAX_AGE, account.poll.max_age)),
    ]);
    for further in collectors.iter().skip(1) {
        settings.push(inherited(&interval_key(further.collector), human(further.poll.interval)));
    }
    for Account { collector, api, .. } in collectors.iter().map(AsRef::as_ref) {
        for field in collector.fields {
            if let (Some(unit), Some(key)) = (api.units.of(collector, *field), unit_key(collector, *field)) {
                settings.push(inherited(&key, unit.as_str().to_owned()));
            }
        }
    }
    settings.extend([
        of_proxy(inherited(PROXY_URL, account.api.transport.proxy.to_string()), account, proxy),
        inherited(CA_FILE, ca_file.to_owned()),
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
    match &secret.source {
        SecretSource::Inline(_) => "********".to_owned(),
        SecretSource::File { path, .. } => {
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
    source(paths.iter().find_map(|path| at(&merged.root, path)))
}

fn at<'a>(root: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let found = path.iter().try_fold(root, |value, key| match &value.kind {
        ValueKind::Table(table) => table.get(*key),
        _ => None,
    });
    found.filter(|value| value.kind != ValueKind::Nil)
}
