//! How a simulated account can fail: the failures of a year.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{HeaderValue, RETRY_AFTER},
};
use serde::{Deserialize, Serialize};

/// One failure, as the control interface takes it: `{"kind": "status", "status": 500}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// An HTTP status with a page of HTML, as a proxy on the way sends it.
    Status {
        /// The status.
        status: u16,
    },
    /// The right answer, late.
    Delay {
        /// By how much, in milliseconds.
        milliseconds: u64,
    },
    /// The right answer's first half, and then the end of the connection.
    Truncated,
    /// HTTP 200 with a code of the API's own.
    Code {
        /// The code.
        code: i64,
    },
    /// HTTP 429.
    RateLimited {
        /// The `Retry-After` header, in seconds.
        retry_after: u64,
    },
    /// The connection ends without an answer.
    Dropped,
}

impl Fault {
    /// Gives the right answer as the fault makes it.
    pub(super) async fn apply(self, right: impl FnOnce() -> Response<FaultyBody>) -> io::Result<Response<FaultyBody>> {
        match self {
            Self::Status { status } => {
                let mut response = Response::new(FaultyBody::whole(Bytes::from_static(b"<html>failure</html>")));
                *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Ok(response)
            }
            Self::Delay { milliseconds } => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                Ok(right())
            }
            Self::Truncated => Ok(right().map(FaultyBody::truncated)),
            Self::Code { code } => {
                let body = format!("{{\"code\":{code},\"msg\":\"ordered failure\"}}");
                Ok(right().map(|_| FaultyBody::whole(Bytes::from(body))))
            }
            Self::RateLimited { retry_after } => {
                let mut response = Response::new(FaultyBody::whole(Bytes::new()));
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
                Ok(response)
            }
            Self::Dropped => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

/// A body that may end before the length that it announces, and the connection with it.
#[derive(Debug)]
pub struct FaultyBody {
    rest: Option<Bytes>,
    announced: usize,
}

impl FaultyBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self { announced: bytes.len(), rest: Some(bytes) }
    }

    fn truncated(self) -> Self {
        let half = self.announced / 2;
        Self { rest: self.rest.map(|bytes| bytes.slice(..half)), ..self }
    }
}

impl Body for FaultyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.rest.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced as u64)
    }
}
