//! One connection: TLS where it is asked for, then HTTP within its limits.

use std::{
    error::Error,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    pace::{Limits, Pace, PacedBody, PacedStream},
    server::{Answers, OverBound, Peer},
};

/// A request's line and headers together.
const MAX_HEAD_BYTES: u32 = 16 * 1024;

const MAX_HEADERS: usize = 64;

/// What an HTTP/1 connection buffers of requests and answers.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 32;

/// Streams that an HTTP/2 client opened and reset before they were looked at (rapid reset, CVE-2023-44487): beyond
/// them the connection ends. The library ends one that floods CONTINUATION frames (CVE-2024-27316) by itself.
const MAX_RESET_STREAMS: usize = 20;

/// Streams that were reset for what the client sent.
const MAX_BAD_STREAMS: usize = 64;

/// How soon a dead HTTP/2 connection is found.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How a connection ended: an error is of the client's making, mostly.
type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// What a connection is served by, and on what terms.
pub(super) struct Connection<A> {
    pub(super) answers: A,
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Whether it is one of the few above the bound.
    pub(super) over_bound: bool,
    /// The client's address, where it has one.
    pub(super) peer: Option<IpAddr>,
    pub(super) stop: CancellationToken,
}

/// Serves one plain connection by itself, by HTTP/2 or HTTP/1, as one of a listener's: for tests and fuzzing.
///
/// # Errors
/// Why it ended early.
pub async fn serve_connection<I>(stream: I, http2: bool, answers: impl Answers) -> Ended
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Connection { answers, tls: None, over_bound: false, peer: None, stop: CancellationToken::new() };
    if http2 { connection.http2(stream).await } else { connection.http1(stream).await }
}

impl<A: Answers> Connection<A> {
    /// Serves it until it ends. What is awaited is boxed: a connection takes the room of what it does, not of all
    /// that it might do.
    pub(super) async fn serve<I>(mut self, stream: I) -> Ended
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(tls) = self.tls.take() else { return self.http1(stream).await };
        let handshake = Box::pin(TlsAcceptor::from(tls).accept(stream));
        let handshake = self.stop.run_until_cancelled(timeout(self.limits().head, handshake));
        let Some(stream) = handshake.await else { return Ok(()) };
        let stream = stream??;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(stream).await
        } else {
            self.http1(stream).await
        }
    }

    fn http1<I>(self, stream: I) -> impl Future<Output = Ended> + Send
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pace = Pace::new(self.limits());
        let stream = TokioIo::new(PacedStream { stream, pace: pace.clone(), heads: true });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_header_size(MAX_HEAD_BYTES as usize)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER_BYTES)
            .keep_alive(!self.over_bound)
            .serve_connection(stream, self.paced(&pace));
        drive(Box::pin(serving), pace, self.stop)
    }

    fn http2<I>(self, stream: I) -> impl Future<Output = Ended> + Send
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pace = Pace::new(self.limits());
        let stream = TokioIo::new(PacedStream { stream, pace: pace.clone(), heads: false });
        let serving = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES)
            .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
            .max_local_error_reset_streams(MAX_BAD_STREAMS)
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .serve_connection(stream, self.paced(&pace));
        drive(Box::pin(serving), pace, self.stop)
    }

    fn paced(&self, pace: &Pace) -> PacedAnswers<A> {
        let (answers, pace) = (self.answers.clone(), pace.clone());
        PacedAnswers { answers, pace, over_bound: self.over_bound, peer: self.peer.map(Peer) }
    }

    fn limits(&self) -> Limits {
        if self.over_bound { Limits::HURRIED } else { Limits::USUAL }
    }
}

/// Tells the connection's pace of each answer.
struct PacedAnswers<A> {
    answers: A,
    pace: Pace,
    over_bound: bool,
    peer: Option<Peer>,
}

impl<A: Answers> Service<Request<Incoming>> for PacedAnswers<A> {
    type Response = Response<PacedBody<A::Body>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let answering = self.pace.answer_begins();
        if self.over_bound {
            request.extensions_mut().insert(OverBound);
        }
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let answer = self.answers.clone().answer(request);
        Box::pin(async move { Ok(answer.await?.map(|body| PacedBody { body, answering })) })
    }
}

/// Serves until the connection ends, takes too long, or is told to stop.
async fn drive<C>(mut serving: Pin<Box<C>>, pace: Pace, stop: CancellationToken) -> Ended
where
    C: GracefulConnection<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    // A token of its own: one that all connections waited for would have them contend for its lock.
    let stop = stop.child_token();
    let (mut expired, mut stopping) = (pin!(pace.expired()), false);
    loop {
        tokio::select! {
            // What the connection does now decides how long it may take.
            biased;
            served = serving.as_mut() => return served.map_err(Into::into),
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            () = expired.as_mut() => return Err("it took too long".into()),
        }
    }
}
