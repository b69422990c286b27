//! The accounts as they are configured: each value, masked where it is a secret, and where it comes from.

use std::{sync::Arc, time::Duration};

use config::{Value, ValueKind};
use exporter_toolkit::settings::{Document, Setting, duration, source, value_at};
use jiff::SignedDuration;
use koodrive::{Credential, FieldSpec, Proxy, Secret, SecretSource};

use super::{
    accounts::{
        APP_ID, AUTH_TYPE, CA_FILE, ENDPOINT, INTERVAL, LANGUAGE, MAX_AGE, PROXY_URL, TIMEOUT, TOKEN_PREFIX, USER_ID,
    },
    collectors::{COLLECTORS, interval_key, unit_key},
    proxy::EnvironmentProxy,
};
use crate::account::Account;

/// Those of the accounts.
pub(super) fn of_accounts(accounts: &[Arc<Account>], merged: &Document, proxy: &EnvironmentProxy) -> Vec<Setting> {
    let mut settings = Vec::new();
    for collectors in accounts.chunk_by(|a, b| a.alias == b.alias) {
        let Some(account) = collectors.first() else { continue };
        for (key, value) in values(collectors) {
            let origin = origin(account, &key, merged, proxy);
            settings.push(Setting { key: format!("accounts.{}.{key}", account.alias), value, origin });
        }
    }
    settings
}

/// The keys of one account, which comes once for each collector, each with its value.
pub(super) fn values(collectors: &[Arc<Account>]) -> Vec<(String, String)> {
    let Some(account) = collectors.first() else { return Vec::new() };
    let (api, poll) = (&account.api, account.poll);
    let value = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let secret = value(api.credential.secret().key, &of_secret(api.credential.secret()));
    let mut values = vec![
        value(ENDPOINT, &api.endpoint.to_string()),
        value(LANGUAGE, api.language.as_str()),
        value(USER_ID, api.user_id.as_str()),
        value(AUTH_TYPE, api.credential.kind()),
    ];
    values.extend(match &api.credential {
        Credential::App { app_id, .. } => [value(APP_ID, app_id.as_str()), secret],
        Credential::Token { prefix, .. } => [secret, value(TOKEN_PREFIX, &format!("{prefix:?}"))],
    });
    let names: Vec<_> = collectors.iter().map(|account| account.collector.name).collect();
    values.extend([
        value(COLLECTORS, &names.join(", ")),
        value(INTERVAL, &human(poll.interval)),
        value(TIMEOUT, &human(poll.timeout)),
        value(MAX_AGE, &human(poll.max_age)),
    ]);
    let further = collectors.iter().skip(1);
    values.extend(further.map(|further| (interval_key(further.collector), human(further.poll.interval))));
    for collector in collectors.iter().map(|account| account.collector) {
        let unit = |field: &FieldSpec| Some((unit_key(collector, *field)?, api.units.of(collector, *field)?));
        values.extend(collector.fields.iter().filter_map(unit).map(|(key, unit)| (key, unit.as_str().to_owned())));
    }
    let ca_file = if api.transport.extra_roots.is_empty() { "none" } else { "given" };
    values.extend([value(PROXY_URL, &api.transport.proxy.to_string()), value(CA_FILE, ca_file)]);
    values
}

/// Where an account's value comes from: itself, the top, a variable that names a proxy, or else the default.
fn origin(account: &Account, key: &str, merged: &Document, proxy: &EnvironmentProxy) -> String {
    let is_given = |value: &&Value| value.kind != ValueKind::Nil;
    let own = |key: &str| {
        let path = ["accounts", &account.alias].into_iter().chain(key.split('.'));
        value_at(&merged.root, path).filter(is_given)
    };
    // What goes with an interval is inherited with it alone, and a timeout as far as it fits.
    let is_used = |top: &&Value| match key {
        TIMEOUT => duration(&top.kind.to_string()) == Ok(account.poll.timeout),
        MAX_AGE => own(INTERVAL).is_none(),
        _ => true,
    };
    let top = || value_at(&merged.root, key.split('.')).filter(is_given).filter(is_used);
    let given = own(key).or_else(top);
    match (given, &account.api.transport.proxy, &proxy.proxy) {
        (None, Proxy::Url(_), Some((name, _))) if key == PROXY_URL => format!("environment variable {name}"),
        _ => source(given),
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
