//! KooDrive's API: one request, one answer.
//!
//! It knows the account and nothing of polling, metrics or the web. The rules come from the vendor's
//! API reference ("Querying Space Usage Overview" and the pages on authentication); where those pages
//! disagree, the item's comment says which reading is used.

pub mod answer;
mod client;
mod credential;
mod error;
mod exchange;
pub mod retry_after;
mod server_clock;
pub mod signature;
mod transport;

pub use answer::{Field, FieldFault, Measure, Overview};
pub use client::Client;
pub use credential::{CredentialRead, SecretError};
pub use error::{PollError, Reason, Refusal};
pub use exchange::{Exchange, Head, Stage};
pub use server_clock::ServerClock;
pub use transport::{TransportError, build as build_http};
