//! From what the user wrote to what the program may rely on.
//!
//! Defaults, file, environment and flags are laid over each other by the `config` crate; then every
//! value is parsed into its type, and every problem is reported at once.

mod accounts;
mod effective;
mod layers;
mod listen;
mod problem;
mod reference;
mod section;
#[cfg(test)]
mod tests;
mod validated;
mod web;
mod web_file;

pub use effective::Setting;
pub use layers::{Document, Overrides, Sources};
pub use listen::{ListenAddress, UnixSocket};
pub use problem::{Key, Problem, Problems};
pub use reference::{ConfigKey, config_keys, web_file_keys};
pub use validated::{Config, Log, LogFormat};
pub use web::{Paths, Web};
pub use web_file::{AllowedSan, ClientAuth, PasswordHash, RateLimit, TlsServer, TlsVersion, WebFile};
