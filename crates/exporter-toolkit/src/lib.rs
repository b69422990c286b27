//! What every Prometheus exporter needs: listeners, TLS, access control, content negotiation and exposition.
//!
//! It reads the web configuration file of Prometheus' own exporter toolkit, takes its flags, and bounds what clients can
//! do. An exporter implements [`Collector`] and is served by [`Exporter`]:
//!
//! ```
//! use exporter_toolkit::{Collector, Encoder, Exporter, Options};
//!
//! struct Temperature;
//!
//! impl Collector for Temperature {
//!     fn collect(&self, encoder: &mut Encoder) {
//!         encoder.gauge("room_temperature_celsius", "Temperature of the room.", &[("room", "kitchen")], 21.5);
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), exporter_toolkit::Error> {
//! let exporter = Exporter::new(Temperature).bind(Options::default()).await?;
//! println!("listening on {}", exporter.addresses()[0]);
//! exporter.serve(async {}).await;
//! # Ok(())
//! # }
//! ```
//!
//! Any service of `hyper`, and so any of axum, is served by [`bind_service`] behind the same listeners, TLS, passwords and
//! bounds.

use std::sync::{Mutex, MutexGuard, PoisonError};

mod access;
mod access_policy;
mod basic_auth;
mod body;
mod collector;
mod connection;
mod connections;
mod deadline;
mod encoder;
mod exporter;
pub mod files;
#[cfg(feature = "clap")]
mod flags;
mod landing_page;
mod listen_address;
mod listeners;
mod metrics;
mod negotiation;
mod options;
mod output;
mod page_set;
mod pages;
mod paths;
#[cfg(feature = "prometheus")]
mod registry;
mod routes;
pub mod server;
mod service;
pub mod settings;
mod tls;
mod web_config;

pub use access::Protected;
pub use body::SharedBody;
pub use collector::Collector;
pub use connection::serve_connection;
pub use encoder::{Encoder, FamilyEncoder, Format, Kind, float, rendered};
pub use exporter::{BoundServer, Exporter, bind_service};
#[cfg(feature = "clap")]
pub use flags::WebFlags;
pub use listen_address::{ListenAddress, UnixSocket};
pub use listeners::{Inherited, open_file_limit};
pub use metrics::{SERVER_FAMILIES, ServerFamily, WebConfigState};
pub use options::{Error, Options};
pub use output::Coding;
pub use paths::Paths;
pub use routes::{ReloadReply, Reloads, Routes};
pub use web_config::{AllowedSan, ClientAuth, PasswordHash, RateLimit, TlsServer, TlsVersion, WebConfig};

/// What it guards is whole after a panic, too.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
