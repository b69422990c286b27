//! One connection: TLS where it is asked for, then HTTP within its limits.

use std::{
    error::Error,
    future::pending,
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
use rustls::{ServerConfig, pki_types::UnixTime};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{
    pace::{Limits, Pace, PacedBody, PacedStream},
    server::{Answers, Peer},
    tls,
};

/// A request's line and headers together.
const MAX_HEAD_BYTES: u32 = 16 * 1024;

const MAX_HEADERS: usize = 64;

/// What an HTTP/1 connection buffers of requests and answers.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Requests at once on one HTTP/2 connection. A scraper has one.
const MAX_STREAMS: u32 = 8;

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

/// What a connection is served by, and how.
pub(super) struct Connection<A> {
    pub(super) answers: A,
    /// With what is cancelled once it is replaced.
    pub(super) tls: Option<(Arc<ServerConfig>, CancellationToken)>,
    pub(super) pace: Pace,
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
    let pace = Pace::new(Limits::USUAL);
    let connection = Connection { answers, tls: None, pace, peer: None, stop: CancellationToken::new() };
    let end = connection.stop.clone().cancelled_owned();
    if http2 { connection.http2(stream, end).await } else { connection.http1(stream, end).await }
}

impl<A: Answers> Connection<A> {
    /// Serves it until it ends. What is awaited is boxed: a connection takes the room of what it does, not of all
    /// that it might do.
    pub(super) async fn serve<I>(mut self, stream: I) -> Ended
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Tokens of its own: one that all connections waited for would have them contend for its lock.
        let stop = self.stop.child_token();
        let Some((tls, replaced)) = self.tls.take() else {
            return self.http1(stream, stop.cancelled_owned()).await;
        };
        let handshake = Box::pin(TlsAcceptor::from(tls).accept(stream));
        let Some(stream) = stop.run_until_cancelled(timeout(Limits::USUAL.head, handshake)).await else {
            return Ok(());
        };
        let stream = stream??;
        let (replaced, expired) = (replaced.child_token(), expiry(&stream));
        let end = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = replaced.cancelled() => {}
                () = expired => {}
            }
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(stream, end).await
        } else {
            self.http1(stream, end).await
        }
    }

    fn http1<I>(self, stream: I, end: impl Future<Output = ()> + Send) -> impl Future<Output = Ended> + Send
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pace = self.pace.clone();
        pace.starts();
        let stream = TokioIo::new(PacedStream { stream, pace: pace.clone(), heads: true });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_header_size(MAX_HEAD_BYTES as usize)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER_BYTES)
            .serve_connection(stream, self.paced(&pace));
        drive(Box::pin(serving), pace, Box::pin(end))
    }

    fn http2<I>(self, stream: I, end: impl Future<Output = ()> + Send) -> impl Future<Output = Ended> + Send
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pace = self.pace.clone();
        pace.starts();
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
        drive(Box::pin(serving), pace, Box::pin(end))
    }

    fn paced(&self, pace: &Pace) -> PacedAnswers<A> {
        let (answers, pace) = (self.answers.clone(), pace.clone());
        PacedAnswers { answers, pace, peer: self.peer.map(Peer) }
    }
}

/// Tells the connection's pace of each answer.
struct PacedAnswers<A> {
    answers: A,
    pace: Pace,
    peer: Option<Peer>,
}

impl<A: Answers> Service<Request<Incoming>> for PacedAnswers<A> {
    type Response = Response<PacedBody<A::Body>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let answering = self.pace.answer_begins();
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let answer = self.answers.clone().answer(request);
        Box::pin(async move { Ok(answer.await?.map(|body| PacedBody { body, answering })) })
    }
}

/// Waits until the client's certificate expires, where it has one that has not yet.
fn expiry<I>(stream: &TlsStream<I>) -> impl Future<Output = ()> + Send + use<I> {
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let left = certificate.and_then(|certificate| {
        let expiry = u64::try_from(tls::expiry(certificate)?).ok()?;
        expiry.checked_sub(UnixTime::now().as_secs())
    });
    async move {
        match left {
            Some(left) => sleep(Duration::from_secs(left)).await,
            None => pending().await,
        }
    }
}

/// Serves until the connection ends, takes too long, or must end.
async fn drive<C>(mut serving: Pin<Box<C>>, pace: Pace, mut end: Pin<Box<impl Future<Output = ()>>>) -> Ended
where
    C: GracefulConnection<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let (mut expired, mut stopping) = (pin!(pace.expired()), false);
    loop {
        tokio::select! {
            // What the connection does now decides how long it may take.
            biased;
            served = serving.as_mut() => return served.map_err(Into::into),
            () = end.as_mut(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            () = expired.as_mut() => return Err("it took too long".into()),
        }
    }
}
