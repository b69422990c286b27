//! Why a poll failed: a closed set of reasons, and the words for each case.

use std::time::Duration;

use crate::credential::SecretError;

/// The server's own fault, which may pass by itself.
pub(super) const INNER_INVOCATION_FAILED: i64 = 13_000_201;

/// The `reason` label of `koodrive_poll_failures_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The connection could not be made, or broke before the answer was whole.
    Connect,
    /// The TLS handshake failed: an untrusted, expired or misnamed certificate, or no TLS at all.
    Tls,
    /// No whole answer within the time allowed.
    Timeout,
    /// The configured secret can't be read or can't be sent.
    Credentials,
    /// The API refused the credentials or the permission.
    Auth,
    /// The API asked for fewer requests (status 429).
    RateLimited,
    /// Any other HTTP status that is no success.
    HttpStatus,
    /// The API understood the request and answered with an error code of its own.
    ApiError,
    /// The answer can't be read.
    Decode,
    /// The answer can be read, and a number in it is missing, negative or none.
    InvalidData,
    /// A bug: the exporter panicked in this poll.
    Internal,
}

impl Reason {
    /// All of them with the label's value, in the order of the exposition.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Connect, "connect"),
        (Self::Tls, "tls"),
        (Self::Timeout, "timeout"),
        (Self::Credentials, "credentials"),
        (Self::Auth, "auth"),
        (Self::RateLimited, "rate_limited"),
        (Self::HttpStatus, "http_status"),
        (Self::ApiError, "api_error"),
        (Self::Decode, "decode"),
        (Self::InvalidData, "invalid_data"),
        (Self::Internal, "internal"),
    ];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(reason, _)| *reason == self).map_or("", |(_, name)| name)
    }
}

/// What of a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The name of the host, or of the proxy, has no address.
    NameLookup,
    /// The address refused it.
    Refused,
    /// The proxy opened no tunnel.
    ProxyTunnel,
    /// Anything else, such as no route, or a connection that broke.
    Other,
}

/// One failed poll. Its text names the host, and no path, user id or secret.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// See [`Reason::Connect`].
    #[error("cannot reach {1}")]
    Connect(ConnectFailure, String),
    /// See [`Reason::Tls`].
    #[error("no trusted TLS connection to {0}")]
    Tls(String),
    /// See [`Reason::Timeout`].
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// See [`Reason::Credentials`].
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// See [`Reason::Credentials`].
    #[error("the credential contains a character that is invalid in a header")]
    Unsendable,
    /// See [`Reason::Auth`], [`Reason::RateLimited`], [`Reason::HttpStatus`] and [`Reason::ApiError`].
    #[error("{refusal}")]
    Refused {
        /// Which of the four.
        reason: Reason,
        /// What the API said.
        refusal: Refusal,
    },
    /// See [`Reason::Decode`].
    #[error("cannot read the answer: {0}")]
    Decode(&'static str),
    /// See [`Reason::InvalidData`]; the answer's other numbers may be good.
    #[error("the answer's {0}")]
    InvalidData(String),
    /// See [`Reason::Internal`].
    #[error("exporter panicked, this is a bug")]
    Panic,
}

/// What the API said as it refused a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `code`, or the gateway's `error_code`.
    pub code: Option<String>,
    /// `msg`, or the gateway's `error_msg`: localised words.
    pub message: Option<String>,
    /// The gateway's `request_id`.
    pub request_id: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the API answered HTTP {}", self.status)?;
        if (300..400).contains(&self.status) {
            f.write_str(", a redirect, which is never followed: is the endpoint right?")?;
        }
        for (name, part) in [("code", &self.code), ("message", &self.message), ("request_id", &self.request_id)] {
            if let Some(part) = part {
                write!(f, ", {name} {part:?}")?;
            }
        }
        Ok(())
    }
}

impl PollError {
    /// The failure's one reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Connect(..) => Reason::Connect,
            Self::Tls(_) => Reason::Tls,
            Self::Timeout(_) => Reason::Timeout,
            Self::Secret(_) | Self::Unsendable => Reason::Credentials,
            Self::Refused { reason, .. } => *reason,
            Self::Decode(_) => Reason::Decode,
            Self::InvalidData(_) => Reason::InvalidData,
            Self::Panic => Reason::Internal,
        }
    }

    /// Whether it fails as `other` does, so that there is nothing new to say.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let has_same_cause = || match (self, other) {
            (Self::Connect(one, _), Self::Connect(other, _)) => one == other,
            (Self::Secret(one), Self::Secret(other)) => one.to_string() == other.to_string(),
            (Self::Refused { refusal: one, .. }, Self::Refused { refusal: other, .. }) => {
                one.status == other.status && one.code == other.code
            }
            (Self::Decode(one), Self::Decode(other)) => one == other,
            _ => true,
        };
        self.reason() == other.reason() && has_same_cause()
    }

    /// What the API said, where it refused the request.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// Whether it may pass by itself within seconds.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(..) => true,
            Self::Refused { reason: Reason::HttpStatus, refusal } => matches!(refusal.status, 502..=504),
            Self::Refused { reason: Reason::ApiError, refusal } => {
                refusal.code.as_ref().is_some_and(|code| *code == INNER_INVOCATION_FAILED.to_string())
            }
            _ => false,
        }
    }
}

/// Why no HTTP client can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// One of the extra roots is no certificate.
    #[error("an extra CA is not a PEM certificate")]
    ExtraRoot,
    /// The proxy's URL can't be used.
    #[error("the proxy's URL cannot be used")]
    Proxy,
    /// The HTTP library refused its settings.
    #[error("the HTTP client cannot be made")]
    Client,
}
