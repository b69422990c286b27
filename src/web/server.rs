//! Sockets in, a service's answers out: accepts, limits, and drains at the end.

use std::{
    collections::VecDeque,
    error::Error,
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    connection::Connection,
    guard::Guard,
    listeners::{Inherited, Listener, room_for_connections},
};
use crate::{config::ListenAddress, metrics::OwnMetrics};

/// Connections above the bound, the latest that came, in which only health is told.
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
        match Listener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(source) => {
                listeners.iter().for_each(Listener::remove);
                return Err(cannot(address)(source));
            }
        }
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

/// The address of a request's client.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

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
        if room < terms.max_connections && terms.own.is_some() {
            warn!(room, "the limit on open files leaves room for fewer connections than web.max_connections");
        }
        let places = Places::new(terms.max_connections.min(room));
        let connections = TaskTracker::new();
        let mut loops = JoinSet::new();
        for listener in self.0 {
            let server = Server {
                answers: answers.clone(),
                terms: terms.clone(),
                places: places.clone(),
                connections: connections.clone(),
                stop: stop.clone(),
            };
            loops.spawn(async move {
                server.stop.run_until_cancelled(server.accept(&listener)).await;
                listener.remove();
            });
        }
        loops.join_all().await;
        connections.close();
        if timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
            debug!(connections = connections.len(), "gave up on connections that did not end in time");
        }
    }
}

/// The connections that may be open, and the latest of those above them.
#[derive(Debug, Clone)]
struct Places {
    usual: Arc<Semaphore>,
    reserve: Arc<Mutex<VecDeque<AbortHandle>>>,
}

impl Places {
    fn new(usual: usize) -> Self {
        Self { usual: Arc::new(Semaphore::new(usual)), reserve: Arc::default() }
    }

    fn usual(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.usual).try_acquire_owned().ok()
    }

    /// Takes a connection above the bound in, for which the oldest of those goes: it had time enough to ask for health.
    fn reserve(&self, connection: AbortHandle) {
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        reserve.retain(|connection| !connection.is_finished());
        reserve.push_back(connection);
        if reserve.len() > RESERVE
            && let Some(oldest) = reserve.pop_front()
        {
            oldest.abort();
        }
    }
}

/// One listener's side of the server.
struct Server<A> {
    answers: A,
    terms: Terms,
    places: Places,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl<A: Answers> Server<A> {
    async fn accept(&self, listener: &Listener) {
        loop {
            let accepted = match listener {
                Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, peer)| {
                    // Without it an answer may wait for an acknowledgement; failing to set it does no harm.
                    let _ = stream.set_nodelay(true);
                    (Either::Left(stream), Some(peer))
                }),
                Listener::Unix(unix, _) => unix.accept().await.map(|(stream, _)| (Either::Right(stream), None)),
            };
            match accepted {
                Ok((stream, peer)) => self.spawn(stream, peer),
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection in a task of its own, which tells its end by one line at most.
    fn spawn(&self, stream: Either<TcpStream, UnixStream>, peer: Option<SocketAddr>) {
        let place = self.places.usual();
        let over_bound = place.is_none();
        let connection = Connection {
            answers: self.answers.clone(),
            tls: self.terms.guard.as_ref().and_then(|guard| guard.door().tls.clone()),
            over_bound,
            peer: peer.map(|peer| peer.ip()),
            stop: self.stop.clone(),
        };
        let open = self.terms.own.as_ref().map(|own| own.connection_open());
        let task = self.connections.spawn(async move {
            let _until_it_ends = (place, open);
            if let Err(error) = connection.serve(stream).await {
                let peer = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
                debug!(peer, error, "a connection ended early");
            }
        });
        if over_bound {
            self.places.reserve(task.abort_handle());
            if let Some(own) = &self.terms.own {
                own.connection_over_bound();
            }
        }
    }
}
