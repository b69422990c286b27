//! From what the user wrote to what the program may rely on.
//!
//! Defaults, file, environment and flags are laid over each other by the `config` crate; then every
//! value is parsed into its type, and every problem is reported at once.

mod accounts;
mod changes;
mod collectors;
mod effective;
mod layers;
mod listening;
mod proxy;
mod reference;
#[cfg(test)]
mod tests;
mod validated;
mod web;

pub use accounts::check_roots;
pub use exporter_toolkit::settings::Setting;
pub use layers::{Document, Overrides, Sources};
pub use listening::Listening;
pub use reference::{ConfigKey, config_keys, web_file_keys};
pub use validated::{Config, Log, LogFormat};
pub use web::Web;
