//! The body of an answer: bytes that many answers share.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::pages::Version;

/// The body of an answer.
#[derive(Debug)]
pub struct SharedBody(Rest);

#[derive(Debug)]
enum Rest {
    Text(Bytes),
    Page { version: Arc<Version>, next: usize, left: usize },
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
        Self(Rest::Page { left: version.length, version, next: 0 })
    }
}

impl SharedBody {
    fn left(&self) -> usize {
        match &self.0 {
            Rest::Text(text) => text.len(),
            Rest::Page { left, .. } => *left,
        }
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = match &mut self.0 {
            Rest::Text(text) => std::mem::take(text),
            Rest::Page { version, next, left } => {
                let piece = version.piece(*next)?.unwrap_or_default();
                *next += 1;
                *left -= piece.len();
                piece
            }
        };
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left() as u64)
    }
}
