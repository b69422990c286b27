//! From what is known to exposition bytes.
//!
//! It reads the board of accounts and the exporter's own registry; it knows nothing of the web.

mod exposition;
mod families;
mod own;

use std::sync::Arc;

pub use exposition::Format;
pub use own::{Handler, OwnMetrics};

use crate::poll::{Board, Now};

/// All that `/metrics` shows.
#[derive(Debug, Clone)]
pub struct Exposition {
    /// The accounts.
    pub board: Arc<Board>,
    /// The exporter's own metrics.
    pub own: Arc<OwnMetrics>,
}

impl Exposition {
    /// The exposition as it is at `now`.
    #[must_use]
    pub fn encode(&self, format: Format, now: Now) -> String {
        let mut writer = exposition::Writer::new(format);
        families::write(&self.board, now, &mut writer);
        self.own.write(&mut writer);
        writer.finish()
    }
}
