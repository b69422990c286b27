//! What differs between two configurations, by key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use exporter_toolkit::settings::Setting;

use super::{accounts::CA_FILE, effective, validated::Config};
use crate::account::Account;

/// The keys of so many accounts are named; the other accounts are counted.
const NAMED: usize = 10;

impl Config {
    /// The keys whose values differ from those that are `running` and are used at the start alone. (What the web
    /// configuration file holds is followed by itself.)
    #[must_use]
    pub fn fixed_differences<'a>(&'a self, running: &'a Self) -> Vec<&'a str> {
        let shown = |settings: &'a [Setting]| settings.iter().map(|setting| (&*setting.key, &*setting.value));
        differing(shown(&self.settings), shown(&running.settings)).into_iter().collect()
    }

    /// The keys of accounts that differ from those that are `running`. An account that is new or gone is one key.
    #[must_use]
    pub fn account_differences(&self, running: &Self) -> String {
        let (now, before) = (self.by_alias(), running.by_alias());
        let aliases: BTreeSet<_> = now.keys().chain(before.keys()).collect();
        let changed: Vec<_> = aliases.into_iter().filter(|alias| now.get(*alias) != before.get(*alias)).collect();
        let mut keys = Vec::new();
        for alias in changed.iter().take(NAMED) {
            let (Some(now), Some(before)) = (now.get(*alias), before.get(*alias)) else {
                keys.push(format!("accounts.{alias}"));
                continue;
            };
            let (values, earlier) = (effective::values(now), effective::values(before));
            let mut differing = differing(shown(&values), shown(&earlier));
            if let Some((now, before)) = now.first().zip(before.first()) {
                // A secret and what a file holds are not among the values.
                let (now, before) = (&now.api, &before.api);
                let secret = now.credential.secret();
                differing.extend((secret != before.credential.secret()).then_some(secret.key));
                differing.extend((now.transport.extra_roots != before.transport.extra_roots).then_some(CA_FILE));
            }
            keys.extend(differing.into_iter().map(|key| format!("accounts.{alias}.{key}")));
        }
        match changed.len().saturating_sub(NAMED) {
            0 => keys.join(", "),
            more => format!("{} and {more} more accounts", keys.join(", ")),
        }
    }

    fn by_alias(&self) -> BTreeMap<&str, &[Arc<Account>]> {
        let same = self.accounts.chunk_by(|a, b| a.alias == b.alias);
        same.filter_map(|same| Some((same.first()?.alias.as_str(), same))).collect()
    }
}

fn shown(values: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

/// The keys that do not have the same value in both.
fn differing<'a, T: Iterator<Item = (&'a str, &'a str)>>(one: T, other: T) -> BTreeSet<&'a str> {
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (one.collect(), other.collect());
    one.symmetric_difference(&other).map(|(key, _)| *key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, Sources};

    fn load(yaml: &str) -> Config {
        let yaml = yaml.replace("AUTH", "user_id: \"1\", auth: { type: token, token: t }");
        Config::load(&Sources { document: Some(Document::BuiltIn(yaml)), ..Sources::default() }).unwrap()
    }

    #[test]
    fn account_differences_are_named_by_key_and_without_secrets() {
        let running = load("accounts: { a: { AUTH }, b: { AUTH } }");
        for (yaml, expected) in [
            ("accounts: { a: { AUTH }, b: { AUTH } }", ""),
            (
                "accounts: { a: { AUTH }, b: { AUTH, poll: { interval: 30s } } }",
                "accounts.b.poll.interval, accounts.b.poll.max_age",
            ),
            ("accounts: { a: { AUTH }, c: { AUTH } }", "accounts.b, accounts.c"),
            (
                "accounts: { a: { user_id: \"1\", auth: { type: token, token: other } }, b: { AUTH } }",
                "accounts.a.auth.token",
            ),
            ("language: en-us\naccounts: { a: { AUTH }, b: { AUTH } }", "accounts.a.language, accounts.b.language"),
        ] {
            let found = load(yaml).account_differences(&running);
            assert!(found.starts_with(expected) && expected.is_empty() == found.is_empty(), "{yaml}: {found}");
        }
    }

    #[test]
    fn account_differences_of_many_accounts_are_counted() {
        let accounts = |interval: &str| {
            let accounts: Vec<_> =
                (10..30).map(|n| format!("n{n}: {{ AUTH, poll: {{ interval: {interval} }} }}")).collect();
            load(&format!("accounts: {{ {} }}", accounts.join(", ")))
        };
        let found = accounts("30s").account_differences(&accounts("40s"));
        assert!(found.contains("accounts.n19.poll.interval") && !found.contains("n20"), "{found}");
        assert!(found.ends_with(" and 10 more accounts"), "{found}");
    }

    #[test]
    fn a_reload_names_what_it_cannot_change() {
        let with_account = |yaml: &str| format!("{yaml}\naccounts: {{ a: {{ AUTH }} }}");
        let running = load(&with_account(""));
        for (yaml, expected) in [
            ("", &[][..]),
            ("poll: { interval: 30s }", &[]),
            ("poll: { concurrency: 7 }", &["poll.concurrency"]),
            ("shard: { index: 0, count: 1 }", &["shard.count", "shard.index"]),
            ("auto_reload: true", &["auto_reload"]),
            ("web: { enable_lifecycle: true }", &["web.enable_lifecycle"]),
            ("log: { level: warn }\nweb: { max_requests: 1 }", &["log.level", "web.max_requests"]),
        ] {
            assert_eq!(load(&with_account(yaml)).fixed_differences(&running), expected, "{yaml}");
        }
        let folder = tempfile::tempdir().unwrap();
        let with_file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            load(&with_account(&format!("web: {{ config_file: \"{}\" }}", path.display())))
        };
        let (one, changed, other) =
            (with_file("a", ""), with_file("a", "rate_limit: { interval: 1s, burst: 1 }"), with_file("b", ""));
        assert_eq!(changed.fixed_differences(&one), [""; 0]);
        assert_eq!(other.fixed_differences(&one), ["web.config_file"]);
    }
}
