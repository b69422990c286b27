//! One connection: TLS where it is asked for, then HTTP within its limits.

use std::{
    future::pending,
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
    task::coop::unconstrained,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken};

use crate::{
    deadline::{Deadline, HEAD_TIME, TimedBody, TimedStream},
    service::{BoxError, HttpService, Peer},
    tls,
};

/// A request's line and headers together.
const MAX_HEAD_BYTES: u32 = 16 * 1024;

const MAX_HEADERS: usize = 64;

/// What an HTTP/1 connection buffers of requests and answers: three pieces of a page, for few and large writes.
const MAX_BUFFER_BYTES: usize = 96 * 1024;

/// What an HTTP/2 stream has buffered when the next piece of its page is taken. A client that takes nothing holds one piece
/// in each stream, though the page may have ended long ago.
const MAX_SEND_BUFFER_BYTES: usize = 1;

/// Requests at once on one HTTP/2 connection. A scraper has one.
const MAX_STREAMS: u32 = 4;

/// What a client may send of a request's body, which nobody reads.
const MAX_UNREAD_BYTES: u32 = 1024;

/// Streams that an HTTP/2 client opened and reset before they were looked at (rapid reset, CVE-2023-44487): beyond
/// them the connection ends. The library ends one that floods CONTINUATION frames (CVE-2024-27316) by itself.
const MAX_RESET_STREAMS: usize = 20;

/// Streams that were reset for what the client sent.
const MAX_BAD_STREAMS: usize = 64;

/// How soon a dead HTTP/2 connection is found.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that must end may take for what it has begun. A client that holds back its part of an HTTP/2
/// connection's end could go on with requests otherwise.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is new, so that its first request may be on its way when the server stops.
const NEW_TIME: Duration = Duration::from_millis(500);

/// How a connection ended: an error is of the client's making, mostly.
type Ended = Result<(), BoxError>;

/// What a connection is served by, and how.
pub(crate) struct Connection<A> {
    pub(crate) service: A,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) deadline: Deadline,
    /// The client's address, where it has one.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) accepted: Instant,
    pub(crate) stop: CancellationToken,
    /// Its own, and cancelled once what admitted it is gone: requests that come afterwards get no answer, however long its end takes.
    pub(crate) lapsed: CancellationToken,
    /// The last second in which all certificates of its client are good, in Unix time.
    pub(crate) expires: Option<u64>,
}

/// Serves one connection by HTTP/2 or HTTP/1 on any stream, such as a tunnel or a pipe in memory, within the limits of a
/// listener's connection.
///
/// # Errors
/// Why it ended early.
pub async fn serve_connection<I>(stream: I, http2: bool, service: impl HttpService) -> Ended
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Connection::plain(service, CancellationToken::new());
    if http2 { connection.http2(stream).await } else { connection.http1(stream).await }
}

impl<A: HttpService> Connection<A> {
    /// One without TLS that is accepted now, from no address.
    pub(crate) fn plain(service: A, stop: CancellationToken) -> Self {
        let (deadline, lapsed) = (Deadline::new(), CancellationToken::new());
        Self { service, tls: None, deadline, peer: None, accepted: Instant::now(), stop, lapsed, expires: None }
    }

    /// Serves it until it ends. What is awaited is boxed: a connection takes the room of what it does, not of all
    /// that it might do.
    pub(crate) async fn serve<I>(mut self, stream: I) -> Ended
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(tls) = self.tls.take() else {
            return self.http1(stream).await;
        };
        let handshake = Box::pin(TlsAcceptor::from(tls).accept(stream));
        let stream = tokio::select! {
            stream = timeout(HEAD_TIME, handshake) => stream??,
            () = self.stopped() => return Ok(()),
        };
        self.expires = expiry(&stream);
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(stream).await
        } else {
            self.http1(stream).await
        }
    }

    /// Waits until it must end: the server stops, what admitted it is gone, or a certificate of its client expires.
    fn end(&self) -> impl Future<Output = ()> + Send + use<A> {
        let (lapsed, stopped, expired) = (self.lapsed.clone(), self.stopped(), expired(self.expires));
        async move {
            tokio::select! {
                biased;
                () = stopped => {}
                () = lapsed.cancelled() => {}
                () = expired => lapsed.cancel(),
            }
        }
    }

    /// Waits until the server stops, and for a connection that is new a moment more.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<A> {
        // A token of its own: one that all connections waited for would have them contend for its lock.
        let (stop, new_until) = (self.stop.child_token(), self.accepted + NEW_TIME);
        async move {
            stop.cancelled().await;
            sleep_until(new_until).await;
        }
    }

    fn http1<I>(self, stream: I) -> impl Future<Output = Ended> + Send
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (deadline, end) = (self.deadline.clone(), Box::pin(self.end()));
        deadline.starts();
        let stream = TokioIo::new(TimedStream { stream, deadline: deadline.clone(), heads: true });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            // A client that ends its side after the request still waits for the answer.
            .half_close(true)
            .max_header_size(MAX_HEAD_BYTES as usize)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER_BYTES)
            .serve_connection(stream, self);
        drive(Box::pin(serving), deadline, end)
    }

    fn http2<I>(self, stream: I) -> impl Future<Output = Ended> + Send
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (deadline, end) = (self.deadline.clone(), Box::pin(self.end()));
        deadline.starts();
        let stream = TokioIo::new(TimedStream { stream, deadline: deadline.clone(), heads: false });
        let serving = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
            .max_header_list_size(MAX_HEAD_BYTES)
            .initial_stream_window_size(MAX_UNREAD_BYTES)
            .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
            .max_local_error_reset_streams(MAX_BAD_STREAMS)
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .serve_connection(stream, self);
        drive(Box::pin(serving), deadline, end)
    }
}

/// Its answers move its deadline.
impl<A: HttpService> Service<Request<Incoming>> for Connection<A> {
    type Response = Response<TimedBody<A::Body>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // The clock may have been set, or the machine have slept, since it was known how much time was left.
        if self.expires.is_some_and(|expires| expires < UnixTime::now().as_secs()) {
            self.lapsed.cancel();
        }
        if self.lapsed.is_cancelled() {
            return Box::pin(async { Err("its client is no longer admitted".into()) });
        }
        let (service, peer, answering) = (self.service.clone(), self.peer.map(Peer), self.deadline.answer_begins());
        Box::pin(async move {
            let answer = service.call(request, peer).await.map_err(Into::into)?;
            Ok(answer.map(|body| TimedBody { body, answering }))
        })
    }
}

/// When the first of the certificates that the client sent expires, where there is one that has not yet.
fn expiry<I>(stream: &TlsStream<I>) -> Option<u64> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let expiries = certificates.iter().filter_map(|certificate| u64::try_from(tls::expiry(certificate)?).ok());
    expiries.filter(|expiry| *expiry >= UnixTime::now().as_secs()).min()
}

async fn expired(expires: Option<u64>) {
    match expires {
        Some(expires) => sleep(Duration::from_secs(expires.saturating_sub(UnixTime::now().as_secs()))).await,
        None => pending().await,
    }
}

/// Serves until the connection ends, takes too long, or must end.
///
/// What ends it is polled though the client has the connection read as much as a task may in one go.
async fn drive<C>(mut serving: Pin<Box<C>>, deadline: Deadline, end: Pin<Box<impl Future<Output = ()>>>) -> Ended
where
    C: GracefulConnection<Error: Into<BoxError>>,
{
    let (mut expired, mut end, mut stopping) = (pin!(unconstrained(deadline.expired())), unconstrained(end), false);
    let mut too_late = pin!(Either::Left(pending::<()>()));
    loop {
        tokio::select! {
            // What the connection does now decides how long it may take.
            biased;
            served = serving.as_mut() => return served.map_err(Into::into),
            () = &mut end, if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
                too_late.set(Either::Right(unconstrained(sleep(END_TIMEOUT))));
            }
            () = too_late.as_mut() => return Err("shutdown timed out".into()),
            () = expired.as_mut() => return Err("deadline exceeded".into()),
        }
    }
}

#[cfg(test)]
mod tests;
