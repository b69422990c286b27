//! A body whose bytes are shared, and the permit under which it is sent.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// Handed over slice by slice, so that the permit lasts until the client has taken nearly all. Small enough for
/// that, and large enough to cost no system call more than the whole would.
const SLICE_BYTES: usize = 256 * 1024;

/// The body of an answer.
#[derive(Debug)]
pub struct SharedBody {
    rest: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl SharedBody {
    pub(super) fn under(permit: Option<OwnedSemaphorePermit>, bytes: Bytes) -> Self {
        Self { rest: bytes, _permit: permit }
    }
}

impl From<String> for SharedBody {
    fn from(text: String) -> Self {
        Self::under(None, text.into())
    }
}

impl From<&'static str> for SharedBody {
    fn from(text: &'static str) -> Self {
        Self::under(None, Bytes::from_static(text.as_bytes()))
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(SLICE_BYTES);
        let slice = self.rest.split_to(length);
        Poll::Ready((!slice.is_empty()).then(|| Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
