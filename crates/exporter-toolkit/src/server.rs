//! Sockets in, a service's answers out: accepts, limits, and drains at the end.

use std::{future::poll_fn, io, net::SocketAddr, os::fd::AsFd, sync::Arc, task::Context, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

pub use crate::service::{HttpService, Peer};
use crate::{
    access_policy::WebConfigHandle,
    connection::Connection,
    connections::Connections,
    deadline::HEAD_TIME,
    listen_address::ListenAddress,
    listeners::{Inherited, Listener, max_connections},
    metrics::ServerMetrics,
};

/// How long answers in flight may take once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// What the system keeps of an answer that it cannot send yet, for each connection: megabytes otherwise. Less would cost
/// large answers to fast clients a third.
const MAX_UNSENT_BYTES: u32 = 256 * 1024;

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
    let cannot = |address: String| |source| BindError { address, source };
    if let Some(inherited) = inherited {
        return inherited.listeners().map(Bound).map_err(cannot("a socket of LISTEN_FDS".to_owned()));
    }
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(Listener::bind(address).await.map_err(cannot(address.to_string()))?);
    }
    Ok(Bound(listeners))
}

/// How connections are served.
#[derive(Clone)]
pub struct ServerOptions {
    /// TLS, where it has any.
    pub(crate) web_config: Option<Arc<WebConfigHandle>>,
    /// How many may be open.
    pub max_connections: usize,
    /// Files, sockets and others that the program has open beside them.
    pub reserved_files: usize,
    /// Where they are counted.
    pub(crate) metrics: Option<Arc<ServerMetrics>>,
}

impl ServerOptions {
    /// At most so many open connections, without TLS.
    #[must_use]
    pub fn new(max_connections: usize) -> Self {
        Self { web_config: None, max_connections, reserved_files: 0, metrics: None }
    }
}

impl Bound {
    /// The addresses that are listened on, with the ports that were given for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.0.iter().filter_map(Listener::address).collect()
    }

    /// Serves until `stop` is cancelled; then accepts no more, lets answers in flight finish, and
    /// returns.
    pub async fn serve(self, service: impl HttpService, options: ServerOptions, stop: CancellationToken) {
        let possible = max_connections(options.reserved_files);
        if possible < options.max_connections && options.metrics.is_some() {
            warn!(
                max_connections = possible,
                "limit on open files is too low for web.max_connections, allowing fewer connections"
            );
        }
        let connections = Connections::new(options.max_connections.min(possible));
        let server = Arc::new(Server { service, options, connections, tasks: TaskTracker::new(), stop });
        let mut loops = JoinSet::new();
        for listener in self.0 {
            let server = Arc::clone(&server);
            loops.spawn(async move { server.stop.run_until_cancelled(server.accept(&listener)).await });
        }
        loops.join_all().await;
        server.tasks.close();
        if timeout(DRAIN_TIMEOUT, server.tasks.wait()).await.is_err() {
            debug!(connections = server.tasks.len(), "closing connections after the drain timeout");
        }
    }
}

/// What all listeners share.
struct Server<A> {
    service: A,
    options: ServerOptions,
    connections: Connections,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<A: HttpService> Server<A> {
    async fn accept(&self, listener: &Listener) {
        loop {
            let accepted = match listener {
                Listener::Tcp(tcp) => {
                    poll_fn(|context| tcp.poll_accept(unblocked(tcp, context))).await.map(|(stream, peer)| {
                        // Without it an answer may wait for an acknowledgement; failing to set it does no harm.
                        let _ = stream.set_nodelay(true);
                        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
                        (Either::Left(stream), Some(peer))
                    })
                }
                Listener::Unix(unix, _) => {
                    let accepting = poll_fn(|context| unix.poll_accept(unblocked(unix, context)));
                    accepting.await.map(|(stream, _)| (Either::Right(stream), None))
                }
            };
            match accepted {
                Ok((stream, peer)) => self.spawn(stream, peer).await,
                Err(error) => {
                    debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection in a task of its own, which logs its end by one line at most.
    async fn spawn(&self, stream: Either<TcpStream, UnixStream>, peer: Option<SocketAddr>) {
        let peer = peer.map(|peer| peer.ip());
        let (tls, replaced) =
            self.options.web_config.as_ref().map(|web_config| web_config.admission()).unwrap_or_default();
        let plain = Connection::plain(self.service.clone(), self.stop.clone());
        let connection = Connection { tls, peer, lapsed: replaced.child_token(), ..plain };
        let open = self.options.metrics.as_ref().map(|metrics| metrics.connection_open());
        let registering = self.connections.register(peer, connection.deadline.clone(), |registered| {
            let serving = async move {
                let _until_it_ends = (registered, open);
                // A connection without a request takes the memory of its socket alone.
                let first_byte = timeout(HEAD_TIME, readable(&stream));
                let has_request = tokio::select! {
                    biased;
                    first_byte = first_byte => matches!(first_byte, Ok(Ok(()))),
                    () = connection.stopped() => false,
                };
                if !has_request {
                    return;
                }
                if let Err(error) = connection.serve(stream).await {
                    let peer = peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string());
                    debug!(peer, error, "connection closed early");
                }
            };
            self.tasks.spawn(serving).abort_handle()
        });
        if let (true, Some(metrics)) = (registering.await, &self.options.metrics) {
            metrics.connection_over_bound();
        }
    }
}

/// Another process that has the same socket may have made it one that blocks.
fn unblocked<'a, 'b>(socket: &impl AsFd, context: &'a mut Context<'b>) -> &'a mut Context<'b> {
    // It fails for a socket that is gone alone, and then accepting fails, too.
    let _ = SockRef::from(socket).set_nonblocking(true);
    context
}

async fn readable(stream: &Either<TcpStream, UnixStream>) -> io::Result<()> {
    match stream {
        Either::Left(tcp) => tcp.readable().await,
        Either::Right(unix) => unix.readable().await,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::{Request, Response, body::Incoming, service::service_fn};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::body::SharedBody;

    #[tokio::test]
    async fn service_of_hyper_finds_the_address_of_its_client() {
        let bound = bind(&["127.0.0.1:0".parse().unwrap()], None).await.unwrap();
        let address = bound.addresses()[0].to_string();
        let service = service_fn(async |request: Request<Incoming>| {
            let Peer(address) = request.extensions().get().unwrap();
            Ok::<_, Infallible>(Response::new(SharedBody::from(address.to_string())))
        });
        tokio::spawn(bound.serve(service, ServerOptions::new(1), CancellationToken::new()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\n127.0.0.1"), "{answer}");
    }
}
