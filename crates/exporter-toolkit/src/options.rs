//! How an exporter is served, and why it can't be.

use std::{convert::Infallible, io, net::SocketAddr};

use crate::{
    listen_address::ListenAddress, paths::Paths, server::BindError, settings::Problems, web_config::WebConfig,
};

/// How an exporter is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// At least one, unless systemd passes sockets on.
    pub listen_addresses: Vec<ListenAddress>,
    /// Whether it is an error if systemd passes no sockets.
    pub systemd_socket: bool,
    /// The paths of the pages, as requests name them and as links do.
    pub paths: Paths,
    /// TLS, headers and passwords, as they were when the file was read. Its changes are followed.
    pub web_config: Option<WebConfig>,
    /// Whether health and readiness are shown without a password where `web_config` asks for one.
    pub health_without_password: bool,
    /// Requests that may wait for a page at once; without it there is no bound.
    pub max_requests: Option<usize>,
    /// Open connections.
    pub max_connections: usize,
    /// Files, sockets and others that the program has open beside these connections.
    pub reserved_files: usize,
    /// What the names of the server's own metrics begin with; `None` leaves them out.
    pub namespace: Option<String>,
    /// The realm that a browser shows when it asks for a password.
    pub realm: String,
}

impl Default for Options {
    /// Requests that wait for a page share the work, and each costs its memory alone. Each open connection costs some
    /// 15 KB of memory and a file descriptor.
    fn default() -> Self {
        Self {
            listen_addresses: vec![ListenAddress::Tcp(SocketAddr::from(([0u16; 8], 0)))],
            systemd_socket: false,
            paths: Paths::default(),
            web_config: None,
            health_without_password: true,
            max_requests: Some(4096),
            max_connections: 512,
            reserved_files: 128,
            namespace: Some("exporter".to_owned()),
            realm: "exporter".to_owned(),
        }
    }
}

/// Why an exporter can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listen address can't be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The web configuration can't be used.
    #[error(transparent)]
    WebConfig(#[from] Problems),
    /// Sockets of systemd are wanted, and there are none.
    #[error("--web.systemd-socket: systemd passed no sockets")]
    NoSockets,
    /// The system has no more threads.
    #[error("cannot start a thread: {0}")]
    System(#[from] io::Error),
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
