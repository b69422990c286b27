//! The listener and what it answers.

mod deadline;
mod negotiation;
mod routes;
pub mod server;
mod status_page;

pub use routes::Routes;
