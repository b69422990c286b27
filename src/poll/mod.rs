//! When each account is asked, and what is known of it.
//!
//! It knows the upstream API and neither metrics nor the web: those read what is written here.

mod attempts;
mod board;
mod lanes;
mod poller;
pub mod schedule;
mod state;

pub use board::{Board, Slot};
pub use lanes::Lanes;
pub use poller::{Observer, Poller, Upstream};
pub use state::{AccountState, Attempt, Failure, Finished, Space};
