//! The command line. The comments on its items are the help texts.
#![allow(clippy::doc_markdown, reason = "help texts are no Markdown")]

use std::path::PathBuf;

use clap::{
    ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, parser::ValueSource,
};

use crate::config::Overrides;

/// Prometheus exporter for the space usage of Huawei Cloud KooDrive.
///
/// Flags win over KOODRIVE_EXPORTER__... environment variables, those over the configuration file, and
/// that over the defaults. No flag takes a secret.
#[derive(Debug, Parser)]
#[command(name = "koodrive-exporter", version, max_term_width = 80)]
pub struct Cli {
    /// The command; without one, the exporter runs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of every command.
    #[command(flatten)]
    pub options: Options,
}

/// The options of the exporter that a command's help shows, by their flags' beginnings. The command takes all of them, so
/// that a service's own flags can be put behind `check` or `healthcheck`.
const SHOWN: [(&str, &[&str]); 5] = [
    ("check", &["config.file", "web.config.file"]),
    ("once", &["config.file", "log."]),
    ("healthcheck", &["config.file", "web.config.file", "web.listen-address"]),
    ("demo", &["web.", "log."]),
    ("simulate", &[]),
];

impl Cli {
    /// The command line as it is given.
    ///
    /// # Errors
    /// Where it is wrong, or asks for help.
    pub fn given() -> Result<Self, clap::Error> {
        let matches = Self::described().try_get_matches()?;
        let mut given = Self::from_arg_matches(&matches)?;
        given.options.overrides = overrides(&matches);
        Ok(given)
    }

    /// The commands, each with the options in its help that concern it.
    #[must_use]
    pub fn described() -> clap::Command {
        let mut described = Self::command();
        // Now each command has the options of all.
        described.build();
        SHOWN.into_iter().fold(described, |described, (name, shown)| {
            described.mut_subcommand(name, |command| {
                command.mut_args(|argument| {
                    let flag = argument.get_long().unwrap_or_default();
                    let is_of_exporter = ["config.", "web.", "log."].iter().any(|group| flag.starts_with(group));
                    let is_shown = shown.iter().any(|beginning| flag.starts_with(beginning));
                    if is_of_exporter && !is_shown { argument.hide(true) } else { argument }
                })
            })
        })
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate the configuration, and print it with secrets masked and each value's origin
    Check(Check),
    /// Poll every account once and write the exposition
    Once(Once),
    /// Ask a running exporter whether it is healthy: exit code 0 if it is
    Healthcheck(Healthcheck),
    /// Run the exporter against the built-in simulator: no account, no file, no network needed
    Demo,
    /// Run the simulator of the KooDrive API alone, for rehearsals and tests
    Simulate(Simulate),
}

/// The options of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Poll every account once, and show a row for each: its state, its space, and what to look at
    #[arg(long)]
    pub online: bool,
    /// Treat warnings as errors: exit code 3
    #[arg(long)]
    pub strict: bool,
    /// With --online, show errors, the API's own numbers and their units below the table
    #[arg(long, requires = "online")]
    pub verbose: bool,
    /// Format of what --online shows
    #[arg(long, requires = "online", value_enum, default_value_t)]
    pub output: OutputForm,
}

/// The form of what a command shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputForm {
    /// A table for people
    #[default]
    Table,
    /// JSON for programs
    Json,
}

/// The options of `once`.
#[derive(Debug, Args)]
pub struct Once {
    /// Write to this file atomically, for the textfile collector [default: standard output, as with -]
    #[arg(long, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// Write process_* and koodrive_exporter_*, too: in a textfile collector they collide with node_exporter's own
    #[arg(long)]
    pub include_exporter_metrics: bool,
}

/// The options of `healthcheck`.
#[derive(Debug, Args)]
pub struct Healthcheck {
    /// URL to request [default: the health page of the first TCP address in the configuration, else of the first Unix socket]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// The simulator's options.
#[derive(Debug, Args)]
pub struct Simulate {
    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:10711")]
    pub listen_address: String,
    /// Number of accounts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub accounts: u64,
    /// Poll interval in the written configuration
    #[arg(long, value_name = "TIME", default_value = "15s")]
    pub interval: String,
    /// Write a configuration with which the exporter polls these accounts
    #[arg(long, value_name = "PATH")]
    pub write_config: Option<PathBuf>,
}

/// The id of the one option that sets no key.
const CONFIG_FILE: &str = "config_file";

/// The options of every command. One that sets a key of the configuration has its path as its id, by which `overrides` reads
/// it: its field is there for its type and its help.
#[derive(Debug, Args)]
pub struct Options {
    /// Configuration in YAML, TOML or JSON, by its extension [default: config/koodrive-exporter.yml,
    /// then /etc/koodrive-exporter/koodrive-exporter.yml]
    #[arg(id = CONFIG_FILE, long = "config.file", value_name = "PATH", global = true)]
    pub config_file: Option<PathBuf>,
    /// Reload the configuration when its file changes
    #[arg(id = "auto_reload", long = "config.auto-reload", global = true)]
    pub auto_reload: bool,
    /// Address to listen on: HOST:PORT, :PORT or unix:/PATH?mode=660&owner=USER&group=GROUP; can be repeated; not
    /// used if systemd passes sockets [default: :10710, on all addresses]
    #[arg(id = "web.listen_addresses", long = "web.listen-address", value_name = "ADDR", global = true)]
    pub listen_addresses: Vec<String>,
    /// Listen on the sockets that systemd passes; it is an error if there are none
    #[arg(id = "web.systemd_socket", long = "web.systemd-socket", global = true)]
    pub systemd_socket: bool,
    /// Path of the metrics [default: /metrics]
    #[arg(id = "web.telemetry_path", long = "web.telemetry-path", value_name = "PATH", global = true)]
    pub telemetry_path: Option<String>,
    /// TLS, client certificates, passwords and headers, by the keys of the Prometheus exporter toolkit
    #[arg(id = "web.config_file", long = "web.config.file", value_name = "PATH", global = true)]
    pub web_config_file: Option<String>,
    /// Prefix of the paths of all requests [default: the path of --web.external-url]
    #[arg(id = "web.route_prefix", long = "web.route-prefix", value_name = "PATH", global = true)]
    pub route_prefix: Option<String>,
    /// URL of the exporter as others reach it, behind a reverse proxy; links are made from it
    #[arg(id = "web.external_url", long = "web.external-url", value_name = "URL", global = true)]
    pub external_url: Option<String>,
    /// Allow POST and PUT /-/reload
    #[arg(id = "web.enable_lifecycle", long = "web.enable-lifecycle", global = true)]
    pub enable_lifecycle: bool,
    /// Requests that may wait for a page at once; 0 means unlimited [default: 4096]
    #[arg(id = "web.max_requests", long = "web.max-requests", value_name = "N", global = true)]
    pub max_requests: Option<String>,
    /// Connections that may be open [default: 512]
    #[arg(id = "web.max_connections", long = "web.max-connections", value_name = "N", global = true)]
    pub max_connections: Option<String>,
    /// Minimum level of log messages: error, warn, info, debug or trace [default: info]
    #[arg(id = "log.level", long = "log.level", value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
    /// Format of log lines: logfmt or json [default: logfmt]
    #[arg(id = "log.format", long = "log.format", value_name = "FORMAT", global = true)]
    pub log_format: Option<String>,
    /// What these lay over the configuration.
    #[arg(skip)]
    pub overrides: Overrides,
}

/// Each of the options that is given, by its id.
fn overrides(matches: &ArgMatches) -> Overrides {
    let options = Options::augment_args(clap::Command::new(""));
    let keys = options.get_arguments().map(|option| (option.get_id().as_str(), option.get_action()));
    let is_given = |(key, _): &(&str, _)| matches.value_source(key) == Some(ValueSource::CommandLine);
    keys.filter(|(key, _)| *key != CONFIG_FILE).filter(is_given).fold(
        Overrides::default(),
        |overrides, (key, action)| {
            let mut texts = matches.get_raw(key).into_iter().flatten().map(|text| text.to_string_lossy().into_owned());
            match action {
                ArgAction::Append => overrides.with(key, Some(texts.collect::<Vec<_>>())),
                _ => overrides.with(key, texts.next()),
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::config_keys;

    #[test]
    fn each_option_but_the_file_sets_a_key_of_the_configuration() {
        let keys = config_keys();
        let options = Options::augment_args(clap::Command::new(""));
        let ids: Vec<_> = options.get_arguments().map(|option| option.get_id().as_str()).collect();
        let (known, others): (Vec<_>, Vec<_>) = ids.iter().partition(|id| keys.iter().any(|key| key.key.path == **id));
        assert_eq!((known.len(), others), (ids.len() - 1, vec![CONFIG_FILE]));
    }
}
