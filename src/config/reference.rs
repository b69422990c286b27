//! All keys that can be set, from the code that reads them.

use exporter_toolkit::{WebConfig, settings::Key};

use super::{
    layers::{Document, Overrides, Sources},
    validated::Config,
};

/// What stands for any alias.
const ALIAS: &str = "<alias>";

/// A key of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigKey {
    /// The key.
    pub key: Key,
    /// The value that holds unless it is set, where there is one.
    pub default: Option<String>,
    /// Whether it can be set again under an account.
    pub again_under_accounts: bool,
}

/// The keys of the configuration, in the order in which they are read.
#[must_use]
pub fn config_keys() -> Vec<ConfigKey> {
    let all = "collectors: [overview, usage, subscription], ";
    let [app, token] = ["app_id: a, app_secret: s", "token: t"].map(|auth| sources(auth, all));
    let mut keys: Vec<Key> = Vec::new();
    for key in [&app, &token].into_iter().flat_map(|sources| Config::keys(sources).unwrap_or_default()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let plain = sources("token: t", "");
    let explained = [&plain, &token].into_iter().flat_map(Config::explain);
    let settings: Vec<_> = explained.flat_map(|(_, settings)| settings).collect();
    let under_account = |path: &str| format!("accounts.{ALIAS}.{path}");
    let default = |path: &str| {
        let setting = settings.iter().find(|setting| setting.key == path || setting.key == under_account(path));
        setting.filter(|setting| setting.origin == "default").map(|setting| setting.value.clone())
    };
    let is_again_at_top = |key: &Key| keys.iter().any(|top| under_account(&top.path) == key.path);
    let documented = keys.iter().filter(|key| !is_again_at_top(key)).map(|key| ConfigKey {
        key: key.clone(),
        default: default(&key.path),
        again_under_accounts: keys.iter().any(|other| other.path == under_account(&key.path)),
    });
    documented.collect()
}

/// The keys of the web configuration file, in the order in which they are read.
#[must_use]
pub fn web_file_keys() -> Vec<Key> {
    WebConfig::keys()
}

/// A configuration of one account, with some more of its keys.
fn sources(auth: &str, more: &str) -> Sources {
    let kind = if auth.starts_with("token") { "token" } else { "app" };
    let yaml = format!("accounts: {{ \"{ALIAS}\": {{ user_id: \"1\", {more}auth: {{ type: {kind}, {auth} }} }} }}");
    Sources { document: Some(Document::BuiltIn(yaml)), environment: Vec::new(), overrides: Overrides::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_an_account_and_at_the_top_is_told() {
        let keys = config_keys();
        let find = |path: &str| keys.iter().find(|key| key.key.path == path).unwrap();
        let interval = find("poll.interval");
        assert_eq!((interval.default.as_deref(), interval.again_under_accounts), (Some("1m"), true));
        assert_eq!(find("units.total_used").key.values, "one of B, KB, MB, GB, TB");
        assert!(!find("poll.concurrency").again_under_accounts);
        for secret in ["app_secret", "app_secret_file", "token", "token_file"] {
            assert_eq!(find(&format!("accounts.<alias>.auth.{secret}")).default, None);
        }
        assert!(!keys.iter().any(|key| key.key.path == "accounts.<alias>.poll.interval"));
    }

    #[test]
    fn what_check_shows_are_the_keys_that_can_be_set() {
        let keys: Vec<_> = config_keys().into_iter().map(|key| key.key.path).collect();
        let shown = Config::explain(&sources("token: t", "collectors: [overview, usage, subscription], ")).unwrap().1;
        for setting in &shown {
            let under_account = setting.key.trim_start_matches("accounts.<alias>.");
            assert!(keys.iter().any(|key| *key == setting.key || key == under_account), "{}", setting.key);
        }
        let optional = |key: &str| key.starts_with("shard") || key.contains(".auth.");
        for key in keys.iter().filter(|key| !optional(key)) {
            let shown = shown.iter().any(|setting| setting.key == *key || setting.key.ends_with(&format!(">.{key}")));
            assert!(shown, "{key}");
        }
    }

    #[test]
    fn the_web_files_keys_are_those_of_the_toolkit() {
        let keys: Vec<_> = web_file_keys().into_iter().map(|key| key.path).collect();
        let toolkit = [
            "tls_server_config.cert",
            "tls_server_config.cert_file",
            "tls_server_config.key",
            "tls_server_config.key_file",
            "tls_server_config.client_ca",
            "tls_server_config.client_ca_file",
            "tls_server_config.client_auth_type",
            "tls_server_config.client_allowed_sans",
            "tls_server_config.min_version",
            "tls_server_config.max_version",
            "tls_server_config.cipher_suites",
            "tls_server_config.prefer_server_cipher_suites",
            "tls_server_config.curve_preferences",
            "http_server_config.http2",
            "http_server_config.headers",
            "basic_auth_users",
            "rate_limit.interval",
            "rate_limit.burst",
        ];
        assert_eq!(keys, toolkit);
    }
}
