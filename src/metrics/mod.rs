//! From what is known to exposition bytes.
//!
//! It reads the account store and the exporter's own registry; it knows nothing of the web.

mod exposition;
mod families;
mod output;
mod own;
mod reference;

use std::sync::Arc;

use bytes::Bytes;
pub use exposition::Format;
pub use output::{Coding, Output};
pub use own::{Handler, OpenConnection, OwnMetrics};
pub use reference::{FamilyReference, families};
use tokio::time::Instant;

use crate::{clock::Moment, poll::AccountStore};

/// All that `/metrics` shows.
#[derive(Debug, Clone)]
pub struct Exposition {
    /// The accounts.
    pub store: Arc<AccountStore>,
    /// The exporter's own metrics.
    pub own: Arc<OwnMetrics>,
}

impl Exposition {
    /// The exposition as it is at `now`, in pieces, and when the first of its values will be stale.
    #[must_use]
    pub fn encode(&self, format: Format, coding: Coding, now: Moment) -> (Vec<Bytes>, Option<Instant>) {
        let mut writer = exposition::Writer::new(format, coding);
        let stale_from = families::write(&self.store, now, &mut writer);
        self.own.write(&mut writer);
        (writer.finish(), stale_from)
    }
}

/// The families of the accounts alone, in the Prometheus text format.
#[must_use]
pub fn accounts_only(store: &AccountStore, now: Moment) -> Vec<u8> {
    let mut writer = exposition::Writer::new(Format::Text0, Coding::Identity);
    families::write(store, now, &mut writer);
    writer.finish().concat()
}
