//! From what is known to exposition bytes.
//!
//! It reads the account store and the exporter's own registry; it knows nothing of the web.

mod families;
mod own;
mod reference;

use std::sync::Arc;

use bytes::Bytes;
use exporter_toolkit::{Coding, Encoder, Format};
pub use own::OwnMetrics;
pub use reference::{FamilyReference, families};
use tokio::time::Instant;

use crate::{clock::Moment, poll::AccountStore};

/// All that `/metrics` shows.
#[derive(Clone)]
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
        let mut encoder = Encoder::new(format, coding);
        self.write(now, &mut encoder);
        encoder.finish()
    }

    /// The families of the accounts in the Prometheus text format, or all families: beside a process's own, as in a
    /// textfile collector, those of this process would collide.
    #[must_use]
    pub fn text(&self, all_families: bool, now: Moment) -> Vec<u8> {
        let mut encoder = Encoder::new(Format::Text0, Coding::Identity);
        if all_families {
            self.write(now, &mut encoder);
        } else {
            families::write(&self.store, now, true, &mut encoder);
        }
        encoder.finish().0.concat()
    }

    /// Writes all families as they are at `now`.
    pub fn write(&self, now: Moment, encoder: &mut Encoder) {
        encoder.created(self.own.created());
        families::write(&self.store, now, false, encoder);
        self.own.write(encoder);
    }
}
