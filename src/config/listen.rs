//! Where the exporter listens.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
};

/// One address of the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address; `[::]` serves IPv4 too.
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    /// Reads `host:port`, `:port` (all addresses) or `unix:/path`. A name stands for its first IPv4
    /// address, else for its first IPv6 one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "must be HOST:PORT, :PORT or unix:/PATH";
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(SHAPE) };
        }
        if let Some(port) = text.strip_prefix(':') {
            let port: u16 = port.parse().map_err(|_| SHAPE)?;
            return Ok(Self::Tcp(SocketAddr::from(([0u16; 8], port))));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let found: Vec<SocketAddr> = text.to_socket_addrs().map_err(|_| SHAPE)?.collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().map(Self::Tcp).ok_or(SHAPE)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
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
            ("localhost:10710", "127.0.0.1:10710"),
            ("unix:/run/k.sock", "unix:/run/k.sock"),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), expected);
        }
        for bad in ["", "10710", "127.0.0.1", ":x", "unix:k.sock", "unix:"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
    }
}
