//! Sockets in, a service's answers out: binds, accepts, limits, and drains at the end.

use std::{
    error::Error,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use super::deadline::AnswerDeadline;
use crate::config::ListenAddress;

/// A request's head must have come whole by then.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long answers in flight may take once the server is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// A client that has not taken its whole answer by then is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// After a failed accept (no file descriptor left, say), a moment for others to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const BACKLOG: i32 = 1024;

/// Listeners that are bound and do not accept yet.
#[derive(Debug)]
pub struct Bound(Vec<Listener>);

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: ListenAddress,
    source: io::Error,
}

/// Binds all addresses or none.
///
/// # Errors
/// Names the first address that can't be bound.
pub async fn bind(addresses: &[ListenAddress]) -> Result<Bound, BindError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = match address {
            ListenAddress::Tcp(socket) => bind_tcp(*socket).map(Listener::Tcp),
            ListenAddress::Unix(path) => bind_unix(path).await.map(|bound| Listener::Unix(bound, path.clone())),
        };
        listeners.push(listener.map_err(|source| BindError { address: address.clone(), source })?);
    }
    Ok(Bound(listeners))
}

/// `[::]` serves IPv4 too, and only IPv4 on a host that has no IPv6.
fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listen = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    match listen(address) {
        Err(error)
            if address.is_ipv6() && address.ip().is_unspecified() && error.kind() != io::ErrorKind::AddrInUse =>
        {
            listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

/// A socket file that nobody listens on any more is put aside; any other file stays.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path).await => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

async fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket && UnixStream::connect(path).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

impl Bound {
    /// The addresses that are listened on, with the ports that were given for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<ListenAddress> {
        let address = |listener: &Listener| match listener {
            Listener::Tcp(tcp) => tcp.local_addr().ok().map(ListenAddress::Tcp),
            Listener::Unix(_, path) => Some(ListenAddress::Unix(path.clone())),
        };
        self.0.iter().filter_map(address).collect()
    }

    /// Serves until `stop` is cancelled; then accepts no more, lets answers in flight finish, and
    /// returns. A connection whose `answer` is an error is dropped.
    pub async fn serve<F, A, B>(self, answer: F, stop: CancellationToken)
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
        A: Future<Output = io::Result<Response<B>>> + Send + 'static,
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let connections = TaskTracker::new();
        let mut loops = JoinSet::new();
        for listener in self.0 {
            let (answer, stop, connections) = (answer.clone(), stop.clone(), connections.clone());
            loops.spawn(async move {
                let accepting = accept(&listener, answer, &stop, &connections);
                stop.run_until_cancelled(accepting).await;
                if let Listener::Unix(_, path) = listener {
                    let _ = std::fs::remove_file(path);
                }
            });
        }
        loops.join_all().await;
        connections.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
            debug!(connections = connections.len(), "gave up on connections that did not end in time");
        }
    }
}

async fn accept<F, A, B>(listener: &Listener, answer: F, stop: &CancellationToken, connections: &TaskTracker)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = io::Result<Response<B>>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    loop {
        let accepted = match listener {
            Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| {
                // Without it an answer may wait for an acknowledgement; failing to set it does no harm.
                let _ = stream.set_nodelay(true);
                connections.spawn(connection(stream, answer.clone(), stop.child_token()))
            }),
            Listener::Unix(unix, _) => unix
                .accept()
                .await
                .map(|(stream, _)| connections.spawn(connection(stream, answer.clone(), stop.child_token()))),
        };
        if let Err(error) = accepted {
            debug!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Serves one connection until it ends or `stop`, a token of its own: one that all connections waited for would
/// have them contend for its lock at every request.
async fn connection<I, F, A, B>(stream: I, answer: F, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = io::Result<Response<B>>>,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let stream = AnswerDeadline::new(stream, ANSWER_TIMEOUT);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    let mut serving = pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a connection ended early");
    }
}
