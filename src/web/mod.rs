//! The listener and what it answers.

mod access;
mod body;
mod connection;
mod connections;
mod guard;
mod listeners;
mod negotiation;
mod pace;
mod pages;
mod routes;
pub mod server;
mod status_page;
mod tls;

pub use connection::serve_connection;
pub use guard::Guard;
pub use listeners::Inherited;
pub use routes::{ReloadReply, Reloads, Routes};
