//! The forward proxy of the environment variables that curl reads, too: `https_proxy`, `all_proxy`, `no_proxy`, and the
//! same in capitals.

use std::{ffi::OsString, net::IpAddr};

use exporter_toolkit::settings::Problem;
use koodrive::Proxy;
use url::Url;

const PROXY_VARIABLES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const EXCEPTION_VARIABLES: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// What the variables say. An empty one says nothing.
#[derive(Clone, Default)]
pub(super) struct EnvironmentProxy {
    /// The variable and the proxy that it names.
    pub(super) proxy: Option<(&'static str, Url)>,
    exceptions: Vec<String>,
}

impl EnvironmentProxy {
    /// Reads the variables.
    ///
    /// # Errors
    /// When the proxy is not one that can be used: it must not be left out silently.
    pub(super) fn read(environment: &[(OsString, OsString)]) -> Result<Self, Problem> {
        let variable = |name: &&'static str| {
            let (_, value) = environment.iter().find(|(known, value)| known == *name && !value.is_empty())?;
            Some((*name, value.to_string_lossy().trim().to_owned()))
        };
        let proxy = PROXY_VARIABLES.iter().find_map(variable).map(|(name, text)| {
            // As curl reads it, a proxy without a scheme is asked by plain HTTP.
            let text = if text.contains("://") { text } else { format!("http://{text}") };
            let proxy =
                proxy(&text).map_err(|refusal| Problem::new(format!("environment variable {name}"), "", refusal));
            proxy.map(|proxy| (name, proxy))
        });
        let exceptions = EXCEPTION_VARIABLES.iter().find_map(variable).map(|(_, text)| text).unwrap_or_default();
        let separates = |char: char| char == ',' || char.is_whitespace();
        let exceptions = exceptions.split(separates).map(str::to_ascii_lowercase);
        Ok(Self { proxy: proxy.transpose()?, exceptions: exceptions.filter(|name| !name.is_empty()).collect() })
    }

    /// The proxy for requests to a URL.
    pub(super) fn of(&self, url: &Url) -> Proxy {
        match &self.proxy {
            Some((_, proxy)) if !self.exceptions.iter().any(|exception| is_of(url, exception)) => {
                Proxy::Url(proxy.clone())
            }
            _ => Proxy::Direct,
        }
    }
}

/// The URL of a proxy.
///
/// # Errors
/// Says what it looks like, without repeating it: it may hold a password.
pub(super) fn proxy(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or("must be a URL such as http://proxy.example:3128")
}

/// Whether an exception covers a URL: `*`, a name with all below it, or an address, each with or without a port; or a
/// network.
fn is_of(url: &Url, exception: &str) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    if let (Ok(address), Some((network, length))) = (host.parse::<IpAddr>(), exception.split_once('/')) {
        return network.parse().ok().zip(length.parse().ok()).is_some_and(|network| is_in(address, network));
    }
    let (name, port) = match exception.rsplit_once(':') {
        // An address of IPv6 with a port stands in brackets.
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (exception, None),
    };
    let name = name.trim_matches(['[', ']']).trim_start_matches("*.").trim_matches('.');
    let is_named = name == "*" || name == host || host.strip_suffix(name).is_some_and(|below| below.ends_with('.'));
    is_named && port.is_none_or(|port| port.parse().ok() == url.port_or_known_default())
}

fn is_in(address: IpAddr, (network, length): (IpAddr, u32)) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((address, width), (network, network_width)) = (bits(address), bits(network));
    // All bits are host bits where the network is 0 bits long.
    width == network_width && length <= width && (address ^ network).checked_shr(width - length).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<EnvironmentProxy, String> {
        let environment: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        EnvironmentProxy::read(&environment).map_err(|problem| problem.to_string())
    }

    #[test]
    fn first_variable_that_is_not_empty_counts_and_a_bad_one_is_no_direct_connection() {
        let proxy = |variables: &[(&str, &str)]| {
            read(variables).map(|read| read.proxy.map(|(name, url)| format!("{name} {url}")))
        };
        assert_eq!(proxy(&[("https_proxy", ""), ("HTTPS_PROXY", "")]), Ok(None));
        assert_eq!(
            proxy(&[("https_proxy", ""), ("HTTPS_PROXY", "p:3128"), ("ALL_PROXY", "http://q")]),
            Ok(Some("HTTPS_PROXY http://p:3128/".to_owned()))
        );
        assert_eq!(proxy(&[("all_proxy", "https://u:p@q")]), Ok(Some("all_proxy https://u:p@q/".to_owned())));
        for bad in ["http://", "socks5://p", "http://hunter2:x:y@p:port", "ftp://hunter2"] {
            let refusal = proxy(&[("HTTPS_PROXY", bad)]).unwrap_err();
            assert_eq!(refusal, "environment variable HTTPS_PROXY: must be a URL such as http://proxy.example:3128");
        }
    }

    #[test]
    fn exceptions_are_names_addresses_and_networks_with_ports() {
        for (exceptions, url, excepted) in [
            ("", "https://a.example", false),
            ("*", "https://a.example", true),
            ("a.example", "https://a.example", true),
            ("example", "https://a.example", true),
            (".example, b", "https://A.example", true),
            ("*.example", "https://a.example", true),
            ("b\ta.example.", "https://a.example", true),
            ("a.example", "https://a.example.", true),
            ("ample", "https://a.example", false),
            ("b.example", "https://a.example", false),
            ("a.example:443", "https://a.example", true),
            ("a.example:8443", "https://a.example", false),
            ("a.example:8443", "https://a.example:8443", true),
            ("192.0.2.0/24", "https://192.0.2.7", true),
            ("192.0.2.0/24", "https://192.0.3.7", false),
            ("0.0.0.0/0", "https://192.0.3.7", true),
            ("192.0.2.0/33", "https://192.0.2.7", false),
            ("2001:db8::/32", "https://[2001:db8::1]", true),
            ("2001:db8::1", "https://[2001:db8::1]", true),
            ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443", true),
            ("[2001:db8::1]:8443", "https://[2001:db8::1]", false),
            ("192.0.2.7", "https://192.0.2.7", true),
        ] {
            let read = read(&[("https_proxy", "http://p"), ("NO_PROXY", exceptions)]).unwrap();
            let proxy = read.of(&url.parse().unwrap());
            assert_eq!(proxy == Proxy::Direct, excepted, "{exceptions} {url}");
        }
    }
}
