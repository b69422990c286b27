//! The bytes of a page, in pieces: whoever still holds one piece does not hold the whole.

use std::io;

use bytes::Bytes;

/// Large enough that sending piece by piece costs hardly more than sending the whole.
const PIECE_BYTES: usize = 64 * 1024;

/// Room for the line that makes a piece full.
const SLACK_BYTES: usize = 4 * 1024;

/// Collects bytes into pieces of about 64 KiB.
#[derive(Debug, Default)]
pub struct Output {
    full: Vec<Bytes>,
    last: Vec<u8>,
}

impl Output {
    /// The piece that is written to. A line is written as a whole, and followed by [`Self::end_line`].
    pub(super) fn line(&mut self) -> &mut Vec<u8> {
        &mut self.last
    }

    /// Begins a new piece where the last one is full.
    #[inline]
    pub(super) fn end_line(&mut self) {
        if self.last.len() >= PIECE_BYTES {
            let next = Vec::with_capacity(PIECE_BYTES + SLACK_BYTES);
            self.full.push(std::mem::replace(&mut self.last, next).into());
        }
    }

    /// All pieces, in order.
    #[must_use]
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        if !self.last.is_empty() {
            self.full.push(self.last.into());
        }
        self.full
    }
}

impl From<&str> for Output {
    fn from(text: &str) -> Self {
        let mut output = Self::default();
        for piece in text.as_bytes().chunks(PIECE_BYTES) {
            output.last.extend_from_slice(piece);
            output.end_line();
        }
        output
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.last.extend_from_slice(bytes);
        self.end_line();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_the_same_bytes_in_pieces_of_bounded_size() {
        let text = "0123456789".repeat(50_000);
        let pieces = Output::from(text.as_str()).into_pieces();
        assert!(pieces.len() > 5 && pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(pieces.concat(), text.as_bytes());
        assert!(Output::default().into_pieces().is_empty());
    }
}
