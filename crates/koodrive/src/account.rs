//! What a request is made of. A value of these types is good by construction, so nothing checks it again.

use std::{
    hash::{Hash, Hasher},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use crate::{endpoint::Endpoint, secret::Secret, units::Units};

/// One KooDrive account as the API sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Base URL of the API.
    pub endpoint: Endpoint,
    /// The value of the `X-User-Id` header.
    pub user_id: UserId,
    /// The value of the `language` header, in which the API words its messages.
    pub language: Language,
    /// Kind of credential.
    pub credential: Credential,
    /// How the API's numbers are read.
    pub units: Units,
    /// How the endpoint is reached.
    pub transport: Transport,
}

/// How requests are authorised; see the vendor's page on calling the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// `Authorization: <prefix><token>`. A token dies after 20 minutes without a call.
    Token {
        /// The token, or the file in which somebody else renews it.
        token: Secret,
        /// What goes before a token that bears no scheme of its own: `Bearer ` unless configured.
        prefix: String,
    },
    /// `Authorization: HMAC-SHA256 AppId=...`: each request has a signature of its own.
    App {
        /// Public id of the application.
        app_id: AppId,
        /// The application's secret.
        secret: Secret,
    },
}

impl Credential {
    /// A token dies after this long without a call (the vendor's page on tokens).
    pub const TOKEN_LIFETIME: Duration = Duration::from_mins(20);

    /// The secret part.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Token { token: secret, .. } | Self::App { secret, .. } => secret,
        }
    }

    /// The credential's kind, as in `auth.type` and the `auth_type` label.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::App { .. } => "app",
        }
    }
}

/// How an endpoint is reached. Accounts with equal transports share their connections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transport {
    /// The forward proxy.
    pub proxy: Proxy,
    /// PEM certificates that are trusted beside the system's roots. Accounts that inherit them share the bytes.
    pub extra_roots: Arc<[u8]>,
}

impl Hash for Transport {
    /// Not the bytes of the certificates: they can be many, and each of thousands of accounts looks for its connections.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.proxy, self.extra_roots.len()).hash(state);
    }
}

/// Which forward proxy is used.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Proxy {
    /// None at all.
    #[default]
    Direct,
    /// This one, for every request. Its URL may bear a password.
    Url(url::Url),
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Direct => f.write_str("Direct"),
            Self::Url(url) => write!(f, "Url({})", without_password(url)),
        }
    }
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Direct => f.write_str("none"),
            Self::Url(url) => f.write_str(&without_password(url)),
        }
    }
}

/// The URL without what may be secret: its password, or its user where there is none, and all behind the host.
fn without_password(url: &url::Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs that can have neither.
    let _ = match (url.password(), url.username()) {
        (Some(_), _) => url.set_password(Some("***")),
        (None, "") => Ok(()),
        (None, _) => url.set_username("***"),
    };
    url.set_path("");
    url.set_query(None);
    url.set_fragment(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// A text of so many bytes, all of which are allowed.
fn header_text(text: &str, length: RangeInclusive<usize>, is_allowed: impl Fn(u8) -> bool) -> Option<String> {
    (length.contains(&text.len()) && text.bytes().all(is_allowed)).then(|| text.to_owned())
}

/// A KooDrive user's id: a string of up to 64 digits (the vendor's samples have 19).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId(String);

impl UserId {
    /// Takes the id apart from what is none.
    ///
    /// # Errors
    /// Says what an id looks like, without repeating the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let id = header_text(text, 1..=64, |byte| byte.is_ascii_digit());
        id.map(Self).ok_or("must be the KooDrive user's id: 1 to 64 digits, in quotes")
    }

    /// The id as it goes into the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An application's public id: what may stand between `AppId=` and the next comma.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppId(String);

impl AppId {
    /// Takes an id that a header can carry.
    ///
    /// # Errors
    /// Says what an id looks like, without repeating the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let id = header_text(text, 1..=256, |byte| byte.is_ascii_graphic() && byte != b',' && byte != b'=');
        id.map(Self).ok_or("must be the application's id: 1 to 256 visible ASCII characters without `,` and `=`")
    }

    /// The id as it goes into the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A language tag such as `en-US`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Language(String);

impl Language {
    /// Takes letters, digits, hyphens and underscores (the vendor writes both `en-US` and `en_us`).
    ///
    /// # Errors
    /// Says what a tag looks like.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let tag = header_text(text, 2..=35, |byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        tag.map(Self).ok_or("must be a language tag such as en-US")
    }

    /// The tag as it goes into the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Language {
    fn default() -> Self {
        Self("en-US".to_owned())
    }
}
