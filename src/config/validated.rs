//! The configuration that the program may rely on.

use std::sync::Arc;

use exporter_toolkit::settings::{Document, Key, Problems, Report, Reported, Section, Setting, Taken, boolean};
use tracing::Level;

use super::{
    accounts::{self, Common},
    effective,
    layers::Sources,
    proxy::EnvironmentProxy,
    web::{self, Web},
};
use crate::{account::Account, shard::Shard};

/// The whole configuration, valid by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// At least one, in the order of their aliases, once for each collector, the overview before the others.
    pub accounts: Vec<Arc<Account>>,
    /// The part of the accounts that this exporter polls; all of them without it.
    pub shard: Option<Shard>,
    /// Polls in flight at once, over all accounts.
    pub concurrency: usize,
    /// Whether the configuration is reloaded when its file changes.
    pub auto_reload: bool,
    /// The listener.
    pub web: Web,
    /// The log.
    pub log: Log,
    /// Each value that is no account's, and where it comes from.
    pub settings: Vec<Setting>,
}

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Minimum level of log messages.
    pub level: Level,
    /// Format of log lines.
    pub format: LogFormat,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    Logfmt,
    /// One JSON object.
    Json,
}

impl Config {
    /// Makes the configuration from its sources.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with its file or variable and its key's path.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        Self::of(&sources.merge()?, &sources.proxy()?)
    }

    /// The configuration with all of its settings: those of many accounts are too many to be kept.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn explain(sources: &Sources) -> Result<(Self, Vec<Setting>), Problems> {
        let (merged, proxy) = (sources.merge()?, sources.proxy()?);
        let config = Self::of(&merged, &proxy)?;
        let mut settings = effective::of_accounts(&config.accounts, &merged, &proxy);
        settings.extend_from_slice(&config.settings);
        Ok((config, settings))
    }

    fn of(merged: &Document, proxy: &EnvironmentProxy) -> Result<Self, Problems> {
        let report = Report::default();
        let config = read(Section::root(merged, &report), proxy);
        let settings = report.take_settings();
        Ok(Self { settings, ..report.conclude(config)? })
    }

    /// The keys that are looked for where these sources are read, in that order.
    pub(super) fn keys(sources: &Sources) -> Result<Vec<Key>, Problems> {
        let (merged, report) = (sources.merge()?, Report::of_keys());
        let _ = read(Section::root(&merged, &report), &EnvironmentProxy::default());
        Ok(report.into_keys())
    }
}

impl Config {
    /// The accounts that an exporter polls: all, or those of its shard.
    #[must_use]
    pub fn accounts_of(&self, shard: Option<Shard>) -> Vec<Arc<Account>> {
        let own = |account: &&Arc<Account>| shard.is_none_or(|shard| shard.owns(&account.alias));
        self.accounts.iter().filter(own).cloned().collect()
    }
}

fn read(mut root: Section<'_>, proxy: &EnvironmentProxy) -> Result<Config, Reported> {
    let top = Common::take(&mut root);
    let concurrency = root.take_or("poll.concurrency", "256", "Polls in flight at once, over all accounts.", |text| {
        match text.parse() {
            Ok(polls @ 1..=10_000) => Ok(polls),
            _ => Err("must be a number of polls from 1 to 10000"),
        }
    });
    let shard = shard(&mut root);
    let auto_reload = root.take_or(
        "auto_reload",
        "false",
        "Whether the configuration is reloaded when its file changes; SIGHUP reloads it always.",
        boolean,
    );
    let web = web::web(root.section("web"));
    let log = log(&mut root);
    let has_accounts = root.has("accounts");
    let sections = root.sections("accounts");
    if sections.is_empty() {
        let message = if has_accounts {
            "is empty: at least one account is needed"
        } else {
            "is missing: at least one account is needed, in the file (--config.file) or as environment variables"
        };
        root.problem("accounts", message);
    }
    let accounts: Vec<_> =
        sections.into_iter().map(|(alias, section)| accounts::account(&alias, section, &top, proxy)).collect();
    root.finish();
    Ok(Config {
        accounts: accounts.into_iter().collect::<Result<Vec<_>, _>>()?.concat(),
        shard: shard?,
        concurrency: concurrency?,
        auto_reload: auto_reload?,
        web: web?,
        log: log?,
        settings: Vec::new(),
    })
}

/// The index may be `hostname`: the number at the end of this host's name, as a `StatefulSet` gives it to a pod.
fn shard(root: &mut Section<'_>) -> Taken<Shard> {
    let count = root.take("shard.count", "Number of exporters that share the accounts.", |text| match text.parse() {
        Ok(count @ 1..=10_000) => Ok(count),
        _ => Err("must be a number of shards from 1 to 10000"),
    });
    let index = root.take("shard.index", "Number of this exporter among them.", |text| match text {
        "hostname" => ordinal_of_hostname().ok_or("is hostname, and this host's name does not end in - and a number"),
        text => text.parse().map_err(|_| "must be the number of this shard, from 0, or hostname"),
    });
    let (index, count) = (index?, count?);
    for (key, number) in [("shard.count", count), ("shard.index", index)] {
        if let Some(number) = number {
            root.show(key, &number.to_string());
        }
    }
    match (index, count) {
        (None, None) => Ok(None),
        (Some(index), Some(count)) => {
            Shard::new(index, count).map(Some).map_err(|error| root.problem("shard.index", error))
        }
        (None, Some(_)) => {
            Err(root.problem("shard.index", "is missing: the number of this shard, from 0, or hostname"))
        }
        (Some(_), None) => Err(root.problem("shard.count", "is missing: how many shards there are")),
    }
}

fn ordinal_of_hostname() -> Option<u32> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    ordinal(name.trim())
}

fn ordinal(name: &str) -> Option<u32> {
    name.rsplit_once('-')?.1.parse().ok()
}

fn log(root: &mut Section<'_>) -> Result<Log, Reported> {
    let level = root.take_or("log.level", "info", "Minimum level of log messages.", |text| {
        let level = text.parse::<Level>().ok().filter(|level| level.as_str().eq_ignore_ascii_case(text));
        level.ok_or("must be one of error, warn, info, debug, trace")
    });
    let format = root.take_or("log.format", "logfmt", "Format of log lines.", |text| match text {
        "logfmt" => Ok(LogFormat::Logfmt),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be logfmt or json"),
    });
    Ok(Log { level: level?, format: format? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_ordinal_is_the_number_at_the_end_of_its_name() {
        assert_eq!(ordinal("koodrive-exporter-12"), Some(12));
        assert_eq!((ordinal("koodrive-exporter"), ordinal("12"), ordinal("a-")), (None, None, None));
    }
}
