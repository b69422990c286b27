//! The body that requests do not have, which shows whether a request was written.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// An empty body. The HTTP library asks whether it has ended when it writes its request to a connection, and no sooner: a
/// request that never got a connection did not reach the API.
#[derive(Clone, Default)]
pub(super) struct NoBody {
    asked: Arc<AtomicBool>,
}

impl NoBody {
    /// Whether its request was written to a connection.
    pub(super) fn is_written(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Body for NoBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.asked.store(true, Ordering::Relaxed);
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}
