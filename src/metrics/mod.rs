//! From what is known to exposition bytes.
//!
//! It reads the board of accounts and the exporter's own registry; it knows nothing of the web.

mod encoder;
mod exposition;
mod families;
mod own;
mod reference;
mod shared;

use std::sync::Arc;

pub use exposition::Format;
pub use own::{Handler, OpenConnection, OwnMetrics};
pub use reference::{FamilyReference, families};
pub use shared::{Coding, GZIP_LEVEL, Shared, gzip};
use tokio::time::Instant;

use crate::{clock::Moment, poll::Board};

/// All that `/metrics` shows.
#[derive(Debug, Clone)]
pub struct Exposition {
    /// The accounts.
    pub board: Arc<Board>,
    /// The exporter's own metrics.
    pub own: Arc<OwnMetrics>,
}

impl Exposition {
    /// The exposition as it is at `now`, in a buffer of `capacity` bytes at first, and when the first of
    /// its values will be stale.
    #[must_use]
    pub fn encode(&self, format: Format, now: Moment, capacity: usize) -> (Vec<u8>, Option<Instant>) {
        let mut writer = exposition::Writer::new(format, capacity);
        let stale_from = families::write(&self.board, now, &mut writer);
        self.own.write(&mut writer);
        (writer.finish(), stale_from)
    }
}
