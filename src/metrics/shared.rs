//! One encoding for all scrapes: a body is made once, and shared until what it shows has changed.

use std::{io::Write, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use tokio::{sync::Mutex, time::Instant};

use super::{Exposition, Format, encoder::Encoder};
use crate::clock::WallClock;

/// How far the exporter's own metrics may lag behind. What is known of the accounts never does.
const OWN_LAG: Duration = Duration::from_secs(1);

/// Measured by `benches/encoding.rs`: level 2 makes a third less than level 1 for a fifth more time, and level
/// 3 hardly less again for twice the time.
pub const GZIP_LEVEL: u32 = 2;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// None.
    Identity,
    /// RFC 1952.
    Gzip,
}

/// A body, and for how long it is what a scrape should get.
#[derive(Debug)]
struct Encoded {
    /// The bytes, which all answers share.
    body: Bytes,
    /// The board's count of changes before the body was made.
    changes: u64,
    valid_until: Instant,
}

/// The bodies that scrapes share: one for each format and coding.
#[derive(Debug)]
pub struct Shared {
    exposition: Exposition,
    clock: WallClock,
    encoder: Encoder,
    cells: [[Cell; 2]; Format::ALL.len()],
}

#[derive(Debug, Default)]
struct Cell {
    latest: ArcSwapOption<Encoded>,
    /// Held while a body is made, so that a stampede of scrapes makes one.
    making: Mutex<()>,
}

impl Shared {
    /// Nothing is encoded yet.
    #[must_use]
    pub fn new(exposition: Exposition, clock: WallClock) -> Self {
        Self { exposition, clock, encoder: Encoder::start(), cells: Default::default() }
    }

    /// The body for a scrape that starts now: it shows every poll that ended before. `None` only where
    /// encoding panicked, which is a bug.
    pub async fn body(&self, format: Format, coding: Coding) -> Option<Bytes> {
        let changes = self.exposition.board.changes();
        let cell = self.cell(format, coding);
        if let Some(latest) = cell.latest.load().as_ref().filter(|latest| latest.is_valid(changes)) {
            return Some(latest.body.clone());
        }
        let made = match coding {
            Coding::Identity => cell.make(changes, self.encode(format)).await?,
            Coding::Gzip => cell.make(changes, self.compress(format, changes)).await?,
        };
        Some(made.body.clone())
    }

    async fn encode(&self, format: Format) -> Option<Encoded> {
        let previous = self.cell(format, Coding::Identity).latest.load().as_ref().map_or(0, |latest| latest.body.len());
        let changes = self.exposition.board.changes();
        let now = self.clock.moment();
        let exposition = self.exposition.clone();
        let encoding = self.encoder.run(move || {
            // A little room to grow saves copying the whole.
            let (body, stale_from) = exposition.encode(format, now, previous + previous / 64);
            let own_stale_from = now.monotonic + OWN_LAG;
            let valid_until = stale_from.map_or(own_stale_from, |stale| stale.min(own_stale_from));
            Encoded { body: body.into(), changes, valid_until }
        });
        encoding.await
    }

    /// The compressed form of the identity body, which is made first where it is not there.
    async fn compress(&self, format: Format, changes: u64) -> Option<Encoded> {
        let plain = self.cell(format, Coding::Identity).make(changes, self.encode(format)).await?;
        self.encoder.run(move || Encoded { body: gzip(&plain.body, GZIP_LEVEL).into(), ..*plain }).await
    }

    fn cell(&self, format: Format, coding: Coding) -> &Cell {
        let [text0, text1, open_metrics] = &self.cells;
        let [identity, gzip] = match format {
            Format::Text0 => text0,
            Format::Text1 => text1,
            Format::OpenMetrics => open_metrics,
        };
        match coding {
            Coding::Identity => identity,
            Coding::Gzip => gzip,
        }
    }
}

impl Cell {
    fn valid(&self, changes: u64) -> Option<Arc<Encoded>> {
        self.latest.load_full().filter(|latest| latest.is_valid(changes))
    }

    /// The valid body, made by the first who comes while the others wait for it.
    async fn make(&self, changes: u64, made: impl Future<Output = Option<Encoded>>) -> Option<Arc<Encoded>> {
        let _making = self.making.lock().await;
        if let Some(latest) = self.valid(changes) {
            return Some(latest);
        }
        let made = Arc::new(made.await?);
        self.latest.store(Some(Arc::clone(&made)));
        Some(made)
    }
}

impl Encoded {
    fn is_valid(&self, changes: u64) -> bool {
        self.changes >= changes && Instant::now() < self.valid_until
    }
}

/// Compresses a body at a level of 0 to 9.
#[must_use]
pub fn gzip(body: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::new(level));
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}
