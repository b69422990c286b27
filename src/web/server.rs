//! Sockets in, a service's answers out: accepts, limits, and drains at the end.

use std::{error::Error, fmt::Display, io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    guard::Guard,
    listeners::{Inherited, Listener, room_for_connections},
    pace::{Limits, Pace, PacedBody, PacedStream},
};
use crate::{config::ListenAddress, metrics::OwnMetrics};

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

/// Connections above the bound, in which only health is told.
const RESERVE: usize = 32;

/// How long answers in flight may take once the server is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// After a failed accept (no file descriptor left, say), a moment for others to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listeners that are bound and do not accept yet.
#[derive(Debug)]
pub struct Bound(Vec<Listener>);

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: String,
    source: io::Error,
}

/// Takes what systemd passed on, or else binds all addresses or none.
///
/// # Errors
/// Names the first address that can't be bound.
pub async fn bind(addresses: &[ListenAddress], inherited: Option<Inherited>) -> Result<Bound, BindError> {
    let cannot = |address: &dyn Display| {
        let address = address.to_string();
        |source| BindError { address, source }
    };
    if let Some(inherited) = inherited {
        return inherited.listeners().map(Bound).map_err(cannot(&"a socket of LISTEN_FDS"));
    }
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(Listener::bind(address).await.map_err(cannot(address))?);
    }
    Ok(Bound(listeners))
}

/// What answers requests.
pub trait Answers: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static;

    /// The answer; after an error, the connection is dropped.
    fn answer(
        self,
        request: Request<Incoming>,
    ) -> impl Future<Output = io::Result<Response<Self::Body>>> + Send + 'static;
}

/// On what terms connections are served.
#[derive(Debug, Clone)]
pub struct Terms {
    /// TLS, where it has any.
    pub guard: Option<Arc<Guard>>,
    /// How many may be open.
    pub max_connections: usize,
    /// Where they are counted.
    pub own: Option<Arc<OwnMetrics>>,
}

/// Marks a request that came while more connections were open than may be: it is for health alone.
#[derive(Debug, Clone, Copy)]
pub struct OverBound;

impl Bound {
    /// The addresses that are listened on, with the ports that were given for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.0.iter().filter_map(Listener::address).collect()
    }

    /// Serves until `stop` is cancelled; then accepts no more, lets answers in flight finish, and
    /// returns.
    pub async fn serve(self, answers: impl Answers, terms: Terms, stop: CancellationToken) {
        let room = room_for_connections();
        if room < terms.max_connections {
            warn!(room, "the limit on open files leaves room for fewer connections than web.max_connections");
        }
        let places = Places::new(terms.max_connections.min(room));
        let connections = TaskTracker::new();
        let mut loops = JoinSet::new();
        for listener in self.0 {
            let connections = connections.clone();
            let server =
                Server { answers: answers.clone(), terms: terms.clone(), places: places.clone(), stop: stop.clone() };
            loops.spawn(async move {
                server.stop.run_until_cancelled(accept(&listener, &server, &connections)).await;
                if let Listener::Unix(_, Some(path)) = listener {
                    let _ = std::fs::remove_file(path);
                }
            });
        }
        loops.join_all().await;
        connections.close();
        if timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
            debug!(connections = connections.len(), "gave up on connections that did not end in time");
        }
    }
}

/// Serves one plain connection by itself, by HTTP/2 or HTTP/1, as one of a listener's: for tests and fuzzing.
///
/// # Errors
/// Why it ended early.
pub async fn serve_connection<I>(
    stream: I,
    http2: bool,
    answers: impl Answers,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let terms = Terms { guard: None, max_connections: 1, own: None };
    let server = Server { answers, terms, places: Places::new(1), stop: CancellationToken::new() };
    server.http(stream, http2, Limits::USUAL, false).await
}

/// The connections that may be open, and the few above them.
#[derive(Debug, Clone)]
struct Places {
    usual: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
}

struct Place {
    over_bound: bool,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    fn new(usual: usize) -> Self {
        Self { usual: Arc::new(Semaphore::new(usual)), reserve: Arc::new(Semaphore::new(RESERVE)) }
    }

    fn usual(&self) -> Option<Place> {
        Arc::clone(&self.usual).try_acquire_owned().ok().map(|permit| Place { over_bound: false, _permit: permit })
    }

    /// Waits for a place; meanwhile nobody accepts.
    async fn any(&self) -> Place {
        tokio::select! {
            biased;
            Ok(permit) = Arc::clone(&self.usual).acquire_owned() => Place { over_bound: false, _permit: permit },
            Ok(permit) = Arc::clone(&self.reserve).acquire_owned() => Place { over_bound: true, _permit: permit },
            else => std::future::pending().await,
        }
    }
}

#[derive(Clone)]
struct Server<A> {
    answers: A,
    terms: Terms,
    places: Places,
    stop: CancellationToken,
}

async fn accept(listener: &Listener, server: &Server<impl Answers>, connections: &TaskTracker) {
    loop {
        let accepted = match listener {
            Listener::Tcp(tcp) => match tcp.accept().await {
                Ok((stream, peer)) => {
                    // Without it an answer may wait for an acknowledgement; failing to set it does no harm.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(server.clone().connection(stream, peer.to_string(), server.place().await));
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Listener::Unix(unix, _) => match unix.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(server.clone().connection(stream, "unix".to_owned(), server.place().await));
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = accepted {
            debug!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

impl<A: Answers> Server<A> {
    async fn place(&self) -> Place {
        if let Some(place) = self.places.usual() {
            return place;
        }
        if let Some(own) = &self.terms.own {
            own.connection_over_bound();
        }
        self.places.any().await
    }

    /// Serves one connection, whose end is told by one line at most.
    async fn connection<I>(self, stream: I, peer: String, place: Place)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _open = self.terms.own.as_ref().map(|own| own.connection_open());
        if let Err(error) = self.serve(stream, place.over_bound).await {
            debug!(peer, error, "a connection ended early");
        }
    }

    async fn serve<I>(self, stream: I, over_bound: bool) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = if over_bound { Limits::HURRIED } else { Limits::USUAL };
        let tls = self.terms.guard.as_ref().and_then(|guard| guard.door().tls.clone());
        let Some(tls) = tls else { return self.http(stream, false, limits, over_bound).await };
        let stream = timeout(limits.head, TlsAcceptor::from(tls).accept(stream)).await??;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.http(stream, http2, limits, over_bound).await
    }

    async fn http<I>(
        self,
        stream: I,
        http2: bool,
        limits: Limits,
        over_bound: bool,
    ) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let pace = Pace::new(limits);
        let stream = TokioIo::new(PacedStream { stream, pace: pace.clone(), heads: !http2 });
        let (answers, answer_pace) = (self.answers, pace.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let answering = answer_pace.answer_begins();
            if over_bound {
                request.extensions_mut().insert(OverBound);
            }
            let answer = answers.clone().answer(request);
            async move { Ok::<_, io::Error>(answer.await?.map(|body| PacedBody { body, answering })) }
        });
        // A token of its own: one that all connections waited for would have them contend for its lock.
        let stop = self.stop.child_token();
        if http2 {
            let serving = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEAD_BYTES)
                .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
                .max_local_error_reset_streams(MAX_BAD_STREAMS)
                .keep_alive_interval(HTTP2_PING_INTERVAL)
                .keep_alive_timeout(HTTP2_PING_TIMEOUT)
                .serve_connection(stream, service);
            drive(serving, &pace, &stop).await
        } else {
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .max_header_size(MAX_HEAD_BYTES as usize)
                .max_headers(MAX_HEADERS)
                .max_buf_size(MAX_BUFFER_BYTES)
                .keep_alive(!over_bound)
                .serve_connection(stream, service);
            drive(serving, &pace, &stop).await
        }
    }
}

/// Serves until the connection ends, takes too long, or is told to stop.
async fn drive<C>(serving: C, pace: &Pace, stop: &CancellationToken) -> Result<(), Box<dyn Error + Send + Sync>>
where
    C: GracefulConnection<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let (mut serving, mut expired, mut stopping) = (pin!(serving), pin!(pace.expired()), false);
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
