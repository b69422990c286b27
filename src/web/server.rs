//! Sockets in, a service's answers out: accepts, limits, and drains at the end.

use std::{
    error::Error,
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    connection::Connection,
    connections::Connections,
    guard::Guard,
    listeners::{Inherited, Listener, room_for_connections},
    pace::{Limits, Pace},
};
use crate::{config::ListenAddress, metrics::OwnMetrics};

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

/// How connections are served.
#[derive(Debug, Clone)]
pub struct ServerOptions {
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

impl Bound {
    /// The addresses that are listened on, with the ports that were given for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.0.iter().filter_map(Listener::address).collect()
    }

    /// Serves until `stop` is cancelled; then accepts no more, lets answers in flight finish, and
    /// returns.
    pub async fn serve(self, answers: impl Answers, options: ServerOptions, stop: CancellationToken) {
        let room = room_for_connections();
        if room < options.max_connections && options.own.is_some() {
            warn!(room, "limit on open files is too low for web.max_connections, allowing fewer connections");
        }
        let connections = Connections::new(options.max_connections.min(room));
        let tasks = TaskTracker::new();
        let mut loops = JoinSet::new();
        for listener in self.0 {
            let server = Server {
                answers: answers.clone(),
                options: options.clone(),
                connections: connections.clone(),
                tasks: tasks.clone(),
                stop: stop.clone(),
            };
            loops.spawn(async move {
                server.stop.run_until_cancelled(server.accept(&listener)).await;
                listener.remove();
            });
        }
        loops.join_all().await;
        tasks.close();
        if timeout(DRAIN_TIMEOUT, tasks.wait()).await.is_err() {
            debug!(connections = tasks.len(), "gave up on connections that did not end in time");
        }
    }
}

/// One listener's side of the server.
struct Server<A> {
    answers: A,
    options: ServerOptions,
    connections: Connections,
    tasks: TaskTracker,
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

    /// Serves a connection in a task of its own, which logs its end by one line at most.
    fn spawn(&self, stream: Either<TcpStream, UnixStream>, peer: Option<SocketAddr>) {
        let pace = Pace::new(Limits::USUAL);
        let peer = peer.map(|peer| peer.ip());
        let connection = Connection {
            answers: self.answers.clone(),
            tls: self.options.guard.as_ref().and_then(|guard| guard.admission()),
            pace: pace.clone(),
            peer,
            stop: self.stop.clone(),
        };
        let open = self.options.own.as_ref().map(|own| own.connection_open());
        let ended_another = self.connections.register(peer, pace, |registered| {
            let serving = async move {
                let _until_it_ends = (registered, open);
                // A connection without a request takes the memory of its socket alone.
                let stop = connection.stop.child_token();
                let first_byte = timeout(Limits::USUAL.head, readable(&stream));
                let Some(Ok(Ok(()))) = stop.run_until_cancelled_owned(first_byte).await else { return };
                if let Err(error) = connection.serve(stream).await {
                    let peer = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
                    debug!(peer, error, "a connection ended early");
                }
            };
            self.tasks.spawn(serving).abort_handle()
        });
        if let (true, Some(own)) = (ended_another, &self.options.own) {
            own.connection_over_bound();
        }
    }
}

async fn readable(stream: &Either<TcpStream, UnixStream>) -> io::Result<()> {
    match stream {
        Either::Left(tcp) => tcp.readable().await,
        Either::Right(unix) => unix.readable().await,
    }
}
