//! When each account is polled, and what is known of it.
//!
//! It knows the upstream API and neither metrics nor the web: those read what is written here.

mod accounts;
mod attempts;
mod limiter;
mod poller;
mod report;
pub mod schedule;
mod state;
mod supervisor;

pub use accounts::{AccountEntry, AccountStore};
pub use attempts::Upstream;
pub use limiter::Limiter;
pub use poller::{Observer, Poller};
pub use state::{AccountState, Attempt, Finished, Numbers};
pub use supervisor::{Change, Supervisor};
