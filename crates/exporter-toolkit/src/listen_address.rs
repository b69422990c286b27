//! Addresses to listen on.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use nix::unistd::{Group, User};
use url::form_urlencoded;

/// A Unix domain socket and who may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// The socket's file.
    pub path: PathBuf,
    /// The permissions of the file; as the process's umask has it, unless given.
    pub mode: Option<u32>,
    /// The user id that owns the file.
    pub owner: Option<u32>,
    /// The group id of the file.
    pub group: Option<u32>,
}

/// One address of the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address; `[::]` serves IPv4 too.
    Tcp(SocketAddr),
    /// A host's name, or a scoped address such as `fe80::1%eth0`, and a port. It is looked up when it is bound.
    Host(String, u16),
    /// A Unix domain socket.
    Unix(UnixSocket),
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    /// Reads `host:port`, `:port` (all addresses) or `unix:/path`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "must be HOST:PORT, :PORT or unix:/PATH";
        if let Some(socket) = text.strip_prefix("unix:") {
            return if socket.starts_with('/') { unix_socket(socket).map(Self::Unix) } else { Err(SHAPE) };
        }
        if let Some(port) = text.strip_prefix(':') {
            let port: u16 = port.parse().map_err(|_| SHAPE)?;
            return Ok(Self::Tcp(SocketAddr::from(([0u16; 8], port))));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or(SHAPE)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // An address of IPv6 stands in brackets, and nothing else does.
        if host.is_empty() || bracketed.unwrap_or(host).contains(':') != bracketed.is_some() || host.contains('/') {
            return Err(SHAPE);
        }
        let port = port.parse().map_err(|_| SHAPE)?;
        Ok(Self::Host(bracketed.unwrap_or(host).to_owned(), port))
    }
}

/// Reads `/path?mode=660&owner=USER&group=GROUP`, each of which may be missing, and names may be numbers.
fn unix_socket(text: &str) -> Result<UnixSocket, &'static str> {
    let (path, settings) = text.split_once('?').unwrap_or((text, ""));
    let mut socket = UnixSocket { path: path.into(), mode: None, owner: None, group: None };
    for (key, value) in form_urlencoded::parse(settings.as_bytes()) {
        match &*key {
            "mode" => {
                let mode = u32::from_str_radix(&value, 8).ok().filter(|mode| *mode <= 0o777);
                socket.mode = Some(mode.ok_or("has a mode that is not octal, such as 660")?);
            }
            "owner" => {
                let named = || User::from_name(&value).ok().flatten().map(|user| user.uid.as_raw());
                socket.owner =
                    Some(value.parse().ok().or_else(named).ok_or("has an owner that does not exist on this host")?);
            }
            "group" => {
                let named = || Group::from_name(&value).ok().flatten().map(|group| group.gid.as_raw());
                socket.group =
                    Some(value.parse().ok().or_else(named).ok_or("has a group that does not exist on this host")?);
            }
            _ => return Err("has a setting that is none of mode, owner and group"),
        }
    }
    Ok(socket)
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(socket) => write!(f, "unix:{}", socket.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_or_a_socket_path() {
        for (text, expected) in [
            ("[::]:10710", "[::]:10710"),
            (":10710", "[::]:10710"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("localhost:10710", "localhost:10710"),
            ("[fe80::1%eth0]:9", "[fe80::1%eth0]:9"),
            ("[fe80::1%1]:9", "[fe80::1%1]:9"),
            ("unix:/run/k.sock", "unix:/run/k.sock"),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), expected);
        }
        for bad in ["", "10710", "127.0.0.1", ":x", "a:x", "::1:9", "[a]:9", "http://a:9", "unix:k.sock", "unix:"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
    }
}
