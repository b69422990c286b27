//! What to look at after a poll that failed.

use std::borrow::Cow;

use koodrive::{ConnectFailure, Credential, PollError, Proxy, Reason};

use crate::account::Account;

/// Requests that are dated by this host's clock are good until it is this far off, in seconds.
pub(crate) const HARMLESS_SKEW: f64 = 60.0;

/// On which side of the API's clock this host's is, by its skew.
pub(crate) fn side_of(clock_skew: f64) -> &'static str {
    if clock_skew < 0.0 { "behind" } else { "ahead of" }
}

/// What to look at after this failure of a collector, as far as it is known. The codes are those of the vendor's list.
#[must_use]
pub fn remedy(account: &Account, failure: &PollError, clock_skew: Option<f64>) -> Cow<'static, str> {
    match failure {
        PollError::Connect(failure, _) => of_connection(*failure, account),
        // It says all that is known.
        PollError::Secret(error) => error.to_string().into(),
        _ => of_answer(account, failure, clock_skew).into(),
    }
}

/// Where nobody answers, the address that was tried is what to look at.
fn of_connection(failure: ConnectFailure, account: &Account) -> Cow<'static, str> {
    let endpoint = account.api.endpoint.host_and_port();
    let (what, tried) = match &account.api.transport.proxy {
        Proxy::Direct => ("the endpoint", endpoint.clone()),
        proxy @ Proxy::Url(_) => ("http.proxy_url (or HTTPS_PROXY)", proxy.to_string()),
    };
    let remedy = match failure {
        ConnectFailure::NameLookup => format!("{what} and this host's DNS: no address is known for {tried}"),
        ConnectFailure::Refused => format!("{what} and the firewall: connections to {tried} are refused"),
        ConnectFailure::ProxyTunnel => format!("the rules of the proxy {tried}: it opens no tunnel to {endpoint}"),
        ConnectFailure::Other => format!("the route and the firewall between this host and {tried}"),
    };
    remedy.into()
}

fn of_answer(account: &Account, failure: &PollError, clock_skew: Option<f64>) -> &'static str {
    let refusal = failure.refusal();
    if !account.is_overview() && refusal.is_some_and(|refusal| refusal.status == 404) {
        return "collectors: this edition of KooDrive lacks it";
    }
    match refusal.and_then(|refusal| refusal.code.as_deref()) {
        Some("13000101") => "the endpoint: the API does not understand the request",
        Some("13000102") => "user_id and language: the API refuses a parameter",
        Some("13000201") => "the log's trace_id: the failure is inside the API; if it lasts, give it to the vendor",
        Some("13000301") => "the account's space in KooDrive's console: it is missing or abnormal",
        Some("13000311") => "the account's space in KooDrive's console: it is full",
        Some("13000410") => "the permission of the application or user in KooDrive's console",
        Some("13000412") => "the account's space in KooDrive's console: it is not active",
        _ => {
            let is_skewed = clock_skew.is_some_and(|skew| skew.abs() > HARMLESS_SKEW);
            match (failure.reason(), &account.api.credential) {
                (Reason::Auth, Credential::Token { .. }) if !is_skewed => {
                    "the token: is it expired, revoked or another account's? Then at user_id and the user's permission"
                }
                (Reason::Auth, Credential::App { .. }) if !is_skewed => {
                    "app_secret and app_id: are they this application's? Then at user_id and the application's permission"
                }
                (reason, _) => remedy_of_reason(reason, is_skewed),
            }
        }
    }
}

/// What to look at after a failure for this reason, where this host's clock `is_skewed` or not.
#[must_use]
pub fn remedy_of_reason(reason: Reason, is_skewed: bool) -> &'static str {
    match reason {
        Reason::Connect => "the name (DNS), the route, the proxy and the firewall between here and the endpoint",
        Reason::Tls => "the certificate's name, issuer and dates, and at http.ca_file where it is a private one",
        Reason::Timeout => "the network, and at poll.timeout",
        Reason::Credentials => "the secret's file: is it there, readable for this user, not empty?",
        Reason::Auth if is_skewed => {
            "the token or secret, app_id and user_id; then at this host's clock, which is off, though polls correct for it"
        }
        Reason::Auth => {
            "the token or secret (expired, revoked, another account's?), at app_id and user_id, and at the application's \
             permission"
        }
        Reason::RateLimited => "poll.interval, and at who else calls the API with this account",
        Reason::HttpStatus => {
            "the endpoint, and at a proxy or firewall on the way, which may have answered in its place"
        }
        Reason::ApiError => "the code, in the vendor's list of error codes",
        Reason::Decode => "whether it is KooDrive that answers: is the endpoint right, is there a captive proxy?",
        Reason::InvalidData => "the field that is named; the other numbers are good",
        Reason::Internal => "the log; this is a bug of the exporter, please report it",
    }
}

#[cfg(test)]
mod tests {
    use koodrive::Refusal;

    use super::*;

    #[test]
    fn the_clock_is_named_where_it_is_wrong_and_each_documented_code_has_a_remedy_of_its_own() {
        let failure = |reason, code: Option<&str>| {
            let refusal = Refusal { code: code.map(ToOwned::to_owned), ..Refusal::default() };
            PollError::Refused { reason, refusal }
        };
        let (auth, account) = (failure(Reason::Auth, None), Account::example("a"));
        let remedy = |failure: &PollError, skew: Option<f64>| super::remedy(&account, failure, skew);
        assert!(remedy(&auth, Some(-700.0)).contains("clock"));
        assert!(!remedy(&auth, Some(0.6)).contains("clock") && !remedy(&auth, None).contains("clock"));
        let other = remedy(&failure(Reason::ApiError, Some("13000999")), None);
        for code in ["13000101", "13000102", "13000201", "13000301", "13000311", "13000410", "13000412"] {
            assert_ne!(remedy(&failure(Reason::ApiError, Some(code)), None), other, "{code}");
        }
    }

    #[test]
    fn what_was_tried_is_named_where_nobody_answers() {
        let direct = Account::example("a");
        let mut by_proxy = koodrive::Account::clone(&direct.api);
        by_proxy.transport.proxy = Proxy::Url("http://p.example:3128".parse().unwrap());
        let by_proxy = Account { api: by_proxy.into(), ..direct.clone() };
        let remedy = |account, failure| remedy(account, &PollError::Connect(failure, String::new()), None);
        for failure in [ConnectFailure::NameLookup, ConnectFailure::Refused, ConnectFailure::Other] {
            assert!(remedy(&direct, failure).contains("h.example:443"));
            assert!(remedy(&by_proxy, failure).contains("p.example:3128"));
        }
        assert!(remedy(&by_proxy, ConnectFailure::ProxyTunnel).contains("h.example:443"));
    }
}
