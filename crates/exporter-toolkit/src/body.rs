//! The body of an answer: bytes that many answers share.

use std::{
    io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::pages::Version;

/// Fewer bytes of a page are copied for a slow client, which would keep the memory of all of it otherwise.
const MAX_COPIED_BYTES: usize = 32 * 1024;

/// The body of an answer.
#[derive(Debug)]
pub struct SharedBody(Rest);

#[derive(Debug)]
enum Rest {
    Text(Bytes),
    Page(Parts),
}

/// Parts of a page.
#[derive(Debug)]
struct Parts {
    version: Arc<Version>,
    /// The place of the one that comes now.
    place: Range<usize>,
    /// The places of those after it.
    later: vec::IntoIter<Range<usize>>,
    /// The piece that comes next.
    piece: usize,
    /// The place of its first byte.
    begin: usize,
    left: usize,
}

impl From<String> for SharedBody {
    fn from(text: String) -> Self {
        Self(Rest::Text(text.into()))
    }
}

impl From<&'static str> for SharedBody {
    fn from(text: &'static str) -> Self {
        Self(Rest::Text(Bytes::from_static(text.as_bytes())))
    }
}

impl From<Arc<Version>> for SharedBody {
    fn from(version: Arc<Version>) -> Self {
        let whole = 0..version.length;
        Self(Rest::Page(Parts::new(version, whole, Vec::new().into_iter())))
    }
}

impl SharedBody {
    /// These places of a page, in their order.
    pub(crate) fn of(version: Arc<Version>, places: Vec<Range<usize>>) -> Self {
        let mut places = places.into_iter();
        let mut parts = Parts::new(version, places.next().unwrap_or_default(), places);
        if parts.left <= MAX_COPIED_BYTES {
            let mut copy = Vec::with_capacity(parts.left);
            while let Ok(Some(piece)) = parts.next() {
                copy.extend_from_slice(&piece);
            }
            // Otherwise the version has ended, which its body reports.
            if parts.left == 0 {
                return Self(Rest::Text(copy.into()));
            }
        }
        Self(Rest::Page(parts))
    }

    fn left(&self) -> usize {
        match &self.0 {
            Rest::Text(text) => text.len(),
            Rest::Page(parts) => parts.left,
        }
    }
}

impl Parts {
    fn new(version: Arc<Version>, place: Range<usize>, later: vec::IntoIter<Range<usize>>) -> Self {
        let left = place.len() + later.as_slice().iter().map(Range::len).sum::<usize>();
        Self { version, place, later, piece: 0, begin: 0, left }
    }

    /// The bytes of the next piece that belong to the next place; `None` behind the last place.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.left > 0 {
            let begin = self.begin;
            let Some(piece) = self.version.piece(self.piece)? else { break };
            let end = begin + piece.len();
            let wanted = self.place.start.max(begin)..self.place.end.min(end);
            if self.place.end <= end {
                self.place = self.later.next().unwrap_or_default();
            } else {
                (self.piece, self.begin) = (self.piece + 1, end);
            }
            if !wanted.is_empty() {
                self.left -= wanted.len();
                return Ok(Some(piece.slice(wanted.start - begin..wanted.end - begin)));
            }
        }
        Ok(None)
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.0 {
            Rest::Text(text) => Some(std::mem::take(text)).filter(|text| !text.is_empty()),
            Rest::Page(parts) => parts.next()?,
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left() as u64)
    }
}
