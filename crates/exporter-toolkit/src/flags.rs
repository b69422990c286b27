//! The flags of Go's exporter-toolkit.

use std::path::PathBuf;

use clap::Args;

use crate::{
    listen_address::ListenAddress,
    options::{Error, Options},
    paths::Paths,
    settings::Problems,
    web_config::WebConfig,
};

/// Flags with which a user says how an exporter is served.
#[derive(Debug, Clone, Args)]
pub struct WebFlags {
    /// Address to listen on: `HOST:PORT`, `:PORT` or `unix:/PATH`; may be repeated
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = ":9999")]
    pub listen_addresses: Vec<ListenAddress>,
    /// Listen on the sockets that systemd passes, and on no address
    #[arg(long = "web.systemd-socket")]
    pub systemd_socket: bool,
    /// Web configuration file with TLS, users and headers
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    pub telemetry_path: String,
    /// Requests that may wait for a page at once; 0 means unlimited
    #[arg(long = "web.max-requests", value_name = "NUMBER", default_value_t = 4096)]
    pub max_requests: usize,
    /// Leave out the metrics of the server itself
    #[arg(long = "web.disable-exporter-metrics")]
    pub disable_exporter_metrics: bool,
}

impl TryFrom<WebFlags> for Options {
    type Error = Error;

    fn try_from(flags: WebFlags) -> Result<Self, Error> {
        let default = Self::default();
        if !flags.telemetry_path.starts_with('/') {
            return Err(Problems::one("the command line", "--web.telemetry-path", "must begin with /").into());
        }
        Ok(Self {
            listen_addresses: flags.listen_addresses,
            systemd_socket: flags.systemd_socket,
            paths: Paths { telemetry: flags.telemetry_path, ..Paths::default() },
            web_config: flags.config_file.as_deref().map(WebConfig::load).transpose()?,
            max_requests: (flags.max_requests > 0).then_some(flags.max_requests),
            namespace: default.namespace.clone().filter(|_| !flags.disable_exporter_metrics),
            ..default
        })
    }
}
