//! The bytes of a page, in pieces: a client that still holds one piece does not hold the whole.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use memmap2::{MmapMut, MmapOptions};
use tokio::time::Instant;

use crate::lock;

/// What a piece takes. Large enough that sending piece by piece costs hardly more than sending the whole.
const CAPACITY: usize = 32 * 1024;

/// Where a piece begins in its memory. Where bytes from the beginning of a page of memory are copied to a place a few bytes
/// behind that of another, as into a TLS record, some processors take six times as long.
const OFFSET: usize = 64;

/// A piece of this length is full. The line that makes it full mostly fits.
const PIECE_BYTES: usize = CAPACITY - 1024;

/// Measured by `benches/encoding.rs`: level 2 makes a third less than level 1 for a fifth more time, and level 3 hardly
/// less again for twice the time.
const GZIP_LEVEL: u32 = 2;

/// How the bytes of a page are encoded for the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Identity,
    /// Compressed by gzip.
    Gzip,
}

/// What a page shows at a moment.
pub(crate) struct Content {
    pub(crate) pieces: Vec<Bytes>,
    /// The families of an exposition that is not compressed, each with the place of its first byte.
    pub(crate) families: Vec<(String, usize)>,
    /// Something that the page shows will have changed by then, though nothing counts it.
    pub(crate) valid_until: Option<Instant>,
}

/// Collects bytes into pieces of about 31 KiB.
#[derive(Debug)]
pub(crate) struct Output {
    pieces: Vec<Bytes>,
    families: Vec<(String, usize)>,
    line: Vec<u8>,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Output {
    /// Collects nothing yet.
    pub(crate) fn new(coding: Coding) -> Self {
        let gzip = || GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
        Self { pieces: Vec::new(), families: Vec::new(), line: Vec::new(), gzip: (coding == Coding::Gzip).then(gzip) }
    }

    /// What is written to. A line is written as a whole, and followed by [`Self::end_line`].
    pub(crate) fn line(&mut self) -> &mut Vec<u8> {
        &mut self.line
    }

    /// The next line is the first one of this family.
    pub(crate) fn begin_family(&mut self, name: &str) {
        if self.gzip.is_none() {
            let place = self.pieces.iter().map(Bytes::len).sum::<usize>() + self.line.len();
            self.families.push((name.to_owned(), place));
        }
    }

    /// Begins a new piece where the last one is full.
    #[inline]
    pub(crate) fn end_line(&mut self) {
        if self.line.len() >= PIECE_BYTES {
            self.end_piece();
        }
    }

    /// All that was written.
    pub(crate) fn into_content(mut self, valid_until: Option<Instant>) -> Content {
        self.end_piece();
        let rest = match self.gzip {
            // Writing to memory cannot fail.
            Some(gzip) => gzip.finish().unwrap_or_default(),
            None => self.line,
        };
        self.pieces.extend(rest.chunks(PIECE_BYTES).map(piece));
        Content { pieces: self.pieces, families: self.families, valid_until }
    }

    fn end_piece(&mut self) {
        let Some(gzip) = &mut self.gzip else {
            if !self.line.is_empty() {
                self.pieces.push(piece(&self.line));
                self.line.clear();
            }
            return;
        };
        // Writing to memory cannot fail.
        let _ = gzip.write_all(&self.line);
        self.line.clear();
        let compressed = gzip.get_mut();
        self.pieces.extend(compressed.chunks_exact(PIECE_BYTES).map(piece));
        compressed.drain(..compressed.len() / PIECE_BYTES * PIECE_BYTES);
    }
}

/// A copy of the bytes, in memory of their own: what is left of large pages would stay with the allocator otherwise.
fn piece(bytes: &[u8]) -> Bytes {
    let is_full = (PIECE_BYTES..=CAPACITY - OFFSET).contains(&bytes.len());
    is_full.then(|| Piece::of(bytes)).flatten().map_or_else(|| Bytes::copy_from_slice(bytes), Bytes::from_owner)
}

/// The bytes of one piece, whose memory is used again after its last holder.
struct Piece {
    map: Option<MmapMut>,
    length: usize,
}

/// Memory for pieces. That of pieces that nobody holds any more is for those of the next page: new memory costs a third of
/// the time that a large page takes.
static MEMORY: Mutex<Memory> = Mutex::new(Memory::NONE);

struct Memory {
    /// With the time since when; the last one is the first to be used again.
    unused: VecDeque<(Instant, MmapMut)>,
    /// How many there are, in use or not.
    pieces: usize,
}

/// 24 MiB: a page of 10,000 accounts. While there are more, unused ones go back to the system at once.
const MAX_KEPT: usize = 24 * 1024 * 1024 / CAPACITY;

/// What nobody used for so long goes back to the system.
const KEPT_FOR: Duration = Duration::from_secs(1);

impl Memory {
    const NONE: Self = Self { unused: VecDeque::new(), pieces: 0 };

    /// None where the system has no memory to map.
    fn take(&mut self) -> Option<MmapMut> {
        if let Some((_, map)) = self.unused.pop_back() {
            return Some(map);
        }
        // All of its pages at once: they cost a fault each otherwise.
        let map = MmapOptions::new().len(CAPACITY).populate().map_anon().ok()?;
        self.pieces += 1;
        Some(map)
    }

    fn give_back(&mut self, map: MmapMut, now: Instant) {
        self.unused.push_back((now, map));
        if self.pieces > MAX_KEPT {
            self.unused.pop_front();
            self.pieces -= 1;
        }
    }

    /// What nobody has used for a while.
    fn outdated(&mut self, now: Instant) -> Vec<(Instant, MmapMut)> {
        let count = self.unused.partition_point(|(since, _)| now.duration_since(*since) > KEPT_FOR);
        self.pieces -= count;
        self.unused.drain(..count).collect()
    }
}

/// Gives memory that nobody has used for a while back to the system. Returns whether there is more that nobody uses now.
pub(crate) fn release_unused() -> bool {
    let mut memory = memory();
    let (outdated, is_more_left) = (memory.outdated(Instant::now()), !memory.unused.is_empty());
    // Nobody waits for the lock while the system takes it back.
    drop(memory);
    drop(outdated);
    is_more_left
}

fn memory() -> MutexGuard<'static, Memory> {
    lock(&MEMORY)
}

impl Piece {
    /// None where the system has no memory left.
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut map = memory().take()?;
        map.get_mut(OFFSET..OFFSET + bytes.len())?.copy_from_slice(bytes);
        Some(Self { map: Some(map), length: bytes.len() })
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.map.as_ref().and_then(|map| map.get(OFFSET..OFFSET + self.length)).unwrap_or_default()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(map) = self.map.take() {
            memory().give_back(map, Instant::now());
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.get(..PIECE_BYTES - self.line.len()).unwrap_or(bytes);
        self.line.extend_from_slice(fits);
        self.end_line();
        Ok(fits.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn written(text: &str) -> Output {
        let mut output = Output::new(Coding::Identity);
        output.write_all(text.as_bytes()).unwrap();
        output
    }

    #[test]
    fn output_is_the_same_bytes_in_pieces_of_bounded_size() {
        let text = "0123456789".repeat(50_000);
        let pieces = written(&text).into_content(None).pieces;
        assert!(pieces.len() > 5 && pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(pieces.concat(), text.as_bytes());
        assert!(Output::new(Coding::Identity).into_content(None).pieces.is_empty());
    }

    #[test]
    fn output_in_memory_that_was_used_before_has_its_own_bytes_alone_and_a_bound_of_it_is_kept() {
        let of = |byte: &str, length: usize| written(&byte.repeat(length)).into_content(None).pieces;
        drop(of("a", 2 * MAX_KEPT * PIECE_BYTES));
        assert!(memory().unused.len() <= MAX_KEPT);
        let (one, other) = (of("b", 3 * PIECE_BYTES + 7), of("c", 3 * PIECE_BYTES));
        assert_eq!(one.concat(), "b".repeat(3 * PIECE_BYTES + 7).as_bytes());
        assert_eq!(other.concat(), "c".repeat(3 * PIECE_BYTES).as_bytes());
    }

    #[test]
    fn memory_that_nobody_uses_goes_back_to_the_system() {
        let (mut memory, start) = (Memory::NONE, Instant::now());
        let used: Vec<_> = (0..30).map(|_| memory.take().unwrap()).collect();
        for map in used {
            memory.give_back(map, start);
        }
        assert_eq!(memory.outdated(start + KEPT_FOR).len(), 0);
        let used = memory.take().unwrap();
        memory.give_back(used, start + KEPT_FOR);
        assert_eq!(memory.outdated(start + KEPT_FOR + Duration::from_millis(1)).len(), 29);
        assert_eq!((memory.pieces, memory.unused.len()), (1, 1), "the one that was used again");
    }

    #[test]
    fn output_is_compressed_in_pieces() {
        let mut output = Output::new(Coding::Gzip);
        let lines: Vec<String> =
            (0..200_000_u32).map(|number| format!("{}\n", number.wrapping_mul(2_654_435_761))).collect();
        for line in &lines {
            output.line().extend_from_slice(line.as_bytes());
            output.end_line();
        }
        let pieces = output.into_content(None).pieces;
        assert!(pieces.len() > 5 && pieces.iter().all(|piece| piece.len() <= 2 * CAPACITY));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&pieces.concat()[..]).read_to_string(&mut text).unwrap();
        assert!(text == lines.concat());
    }
}
