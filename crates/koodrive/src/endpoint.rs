//! Base URL of the API.

use std::{fmt, net::IpAddr, sync::Arc};

use url::{Position, Url};

/// The API's base address, which many accounts share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Arc<Url>);

impl Endpoint {
    /// Takes `https://host[:port][/path]`. Plain HTTP is taken for a loopback address alone, where
    /// nobody can listen: the vendor's API is HTTPS only, and a token must not travel in the clear.
    ///
    /// # Errors
    /// Says what is wrong with the address, without repeating it: it may bear a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut base = Url::parse(text).map_err(|_| "must be a URL such as https://intl.myhuaweicloud-koodrive.com")?;
        let host = base.host_str().ok_or("must name a host")?;
        match base.scheme() {
            "https" => {}
            "http" if is_loopback(host) => {}
            "http" => return Err("must begin with https:// (plain HTTP is for loopback addresses only)"),
            _ => return Err("must begin with https://"),
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err("must not contain a user or password: credentials belong under the account's `auth`");
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err("must have no query and no fragment");
        }
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        Ok(Self(Arc::new(base)))
    }

    /// The address of what lies at `path`.
    #[must_use]
    pub fn url(&self, path: &str) -> Url {
        let mut url = Url::clone(&self.0);
        url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        url
    }

    /// Whether requests go out in the clear, which they do to a loopback address alone.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// The host, with its port where that is not the scheme's own: exactly the Host header that is sent.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// The host and the port that connections are made to.
    #[must_use]
    pub fn host_and_port(&self) -> String {
        let (host, port) = (self.0.host_str().unwrap_or_default(), self.0.port_or_known_default());
        format!("{host}:{}", port.unwrap_or_default())
    }
}

impl fmt::Display for Endpoint {
    /// The base address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse();
    host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::OVERVIEW;

    #[test]
    fn the_api_lies_below_the_base_address() {
        for (base, overview, host) in [
            ("https://Intl.Example", "https://intl.example/koodrive/ose/v1/space/usage/overview", "intl.example"),
            ("https://h.example:443/", "https://h.example/koodrive/ose/v1/space/usage/overview", "h.example"),
            (
                "https://h.example:8443/a/",
                "https://h.example:8443/a/koodrive/ose/v1/space/usage/overview",
                "h.example:8443",
            ),
            ("http://[::1]:80", "http://[::1]/koodrive/ose/v1/space/usage/overview", "[::1]"),
        ] {
            let endpoint = Endpoint::parse(base).unwrap();
            assert_eq!((endpoint.url(OVERVIEW.path).as_str(), endpoint.host()), (overview, host));
        }
    }

    #[test]
    fn plain_http_is_taken_for_loopback_alone() {
        assert!(Endpoint::parse("http://127.0.0.1:8080").is_ok());
        assert!(Endpoint::parse("http://localhost").is_ok());
        assert!(Endpoint::parse("http://intl.myhuaweicloud-koodrive.com").is_err());
        assert!(Endpoint::parse("http://localhost.example").is_err());
    }

    #[test]
    fn what_is_no_base_address_is_refused_without_repeating_it() {
        for bad in [
            "",
            "nonsense",
            "ftp://h.example",
            "https://",
            "https://u:hunter2@h.example",
            "https://h.example?q",
            "https://h.example#f",
            "data:text/plain,x",
        ] {
            let error = Endpoint::parse(bad).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
