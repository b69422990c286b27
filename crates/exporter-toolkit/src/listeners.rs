//! The sockets: bound by address, or passed on by systemd.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use listenfd::ListenFd;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::listen_address::{ListenAddress, UnixSocket};

const BACKLOG: i32 = 1024;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// With the file that goes when the listener does.
    Unix(UnixListener, #[expect(dead_code, reason = "it is there to be dropped")] Option<SocketFile>),
}

/// A socket's file, which goes with this, unless another exporter has put its own in its place since.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if device_and_inode(&self.path).is_ok_and(|now| now == self.device_and_inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn device_and_inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Sockets that systemd listens on for the exporter (`sd_listen_fds(3)`).
#[derive(Debug)]
pub struct Inherited(Vec<Socket>);

impl Inherited {
    /// Those that `LISTEN_FDS` counts, which must all be stream sockets; `None` where there are none. It forgets
    /// the variables, and so belongs before the first thread.
    ///
    /// # Errors
    /// When one of them is no listening TCP or Unix stream socket.
    pub fn from_environment() -> io::Result<Option<Self>> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let socket = match passed.take_unix_listener(index) {
                Ok(socket) => socket.map(Socket::from),
                Err(_) => passed.take_tcp_listener(index)?.map(Socket::from),
            };
            if socket.as_ref().is_some_and(|socket| !socket.is_listener().unwrap_or(true)) {
                return Err(io::Error::other("a socket of LISTEN_FDS does not listen"));
            }
            sockets.extend(socket);
        }
        Ok((!sockets.is_empty()).then_some(Self(sockets)))
    }

    pub(crate) fn listeners(self) -> io::Result<Vec<Listener>> {
        let listener = |socket: Socket| {
            socket.set_nonblocking(true)?;
            if socket.local_addr()?.is_unix() {
                UnixListener::from_std(socket.into()).map(|socket| Listener::Unix(socket, None))
            } else {
                TcpListener::from_std(socket.into()).map(Listener::Tcp)
            }
        };
        self.0.into_iter().map(listener).collect()
    }
}

impl Listener {
    pub(crate) async fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(socket) => bind_tcp(*socket).map(Self::Tcp),
            ListenAddress::Host(host, port) => {
                let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), *port)).await?.collect();
                let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
                bind_tcp(*first.ok_or(io::ErrorKind::AddrNotAvailable)?).map(Self::Tcp)
            }
            ListenAddress::Unix(socket) => {
                let bound = bind_unix(socket).await?;
                let (path, device_and_inode) = (socket.path.clone(), device_and_inode(&socket.path)?);
                Ok(Self::Unix(bound, Some(SocketFile { path, device_and_inode })))
            }
        }
    }

    /// Where it listens, as far as that has a name.
    pub(crate) fn address(&self) -> Option<ListenAddress> {
        let unix = |path: &Path| UnixSocket { path: path.to_owned(), mode: None, owner: None, group: None };
        match self {
            Self::Tcp(tcp) => tcp.local_addr().ok().map(ListenAddress::Tcp),
            Self::Unix(listener, _) => {
                listener.local_addr().ok()?.as_pathname().map(|path| ListenAddress::Unix(unix(path)))
            }
        }
    }
}

/// Lets the process open as many files as it may, and returns how many that are: the soft limit is 1024 mostly, which is
/// there for programs that call `select`.
#[must_use]
pub fn open_file_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// How many connections may be open beside the files that are reserved: three eighths of all files at least.
pub(crate) fn max_connections(reserved_files: usize) -> usize {
    let limit = open_file_limit();
    limit.saturating_sub(reserved_files).max(limit / 8 * 3).max(1)
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

/// A socket file that nobody listens on any more is put aside; any other file stays. Nobody can connect before the
/// file has its mode and owner.
async fn bind_unix(address: &UnixSocket) -> io::Result<UnixListener> {
    let path = address.path.as_path();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path).await => {
            std::fs::remove_file(path)?;
            socket.bind(&SockAddr::unix(path)?)?;
        }
        bound => bound?,
    }
    if let Some(mode) = address.mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    if address.owner.is_some() || address.group.is_some() {
        chown(path, address.owner, address.group)?;
    }
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(socket.into())
}

async fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket && UnixStream::connect(path).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
