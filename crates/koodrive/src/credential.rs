//! An account's credential at the moment of a request: read, put into a header, and kept out of what is said.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::libc::O_NONBLOCK;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use crate::{account::Credential, secret::Secret, signature::Signed};

/// More than any token or key: a longer file is no secret but a mistake.
const MAX_SECRET_BYTES: u64 = 16 * 1024;

/// How a credential was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CredentialRead {
    /// It is the one that was known, or the first.
    #[default]
    Known,
    /// It is another one than before.
    Rotated,
    /// It can't be read.
    Failed,
}

/// Why a secret can't be had just now. It shows neither what is in the file nor the file's path: a secret may have been
/// written in the place of its path.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing, or this process may not read it.
    #[error("cannot read the secret's file (auth.token_file or auth.app_secret_file): {0}")]
    Unreadable(std::io::Error),
    /// The file is longer than any secret.
    #[error("the secret's file is longer than {MAX_SECRET_BYTES} bytes")]
    TooLong,
    /// What the file holds can't be sent.
    #[error("the secret's file {0}")]
    Unusable(&'static str),
    /// The program is stopping.
    #[error("reading the secret was cancelled")]
    Cancelled,
}

/// Reads one account's secret, and knows what it read last.
#[derive(Debug)]
pub(super) struct SecretReader {
    secret: Secret,
    known: Mutex<Option<SecretString>>,
    /// Held while a file is read, which on a hung network mount may be long after nobody waits for it any more: such
    /// a file costs one thread, not one for each poll.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl SecretReader {
    pub(super) fn new(secret: Secret) -> Self {
        Self { secret, known: Mutex::default(), reading: Arc::default() }
    }

    /// The secret as it is now, and whether that is another one than before.
    pub(super) async fn read(&self) -> Result<(SecretString, bool), SecretError> {
        let secret = self.now().await?;
        let before = self.known().replace(secret.clone());
        let rotated = before.is_some_and(|before| before.expose_secret() != secret.expose_secret());
        Ok((secret, rotated))
    }

    /// Whether the secret is another one now than it was when it was last read.
    pub(super) async fn has_changed(&self) -> bool {
        let Ok(secret) = self.now().await else { return false };
        self.known().as_ref().is_none_or(|known| known.expose_secret() != secret.expose_secret())
    }

    async fn now(&self) -> Result<SecretString, SecretError> {
        let path = match &self.secret {
            Secret::Inline(secret) => return Ok(secret.clone()),
            Secret::File(path) => path.clone(),
        };
        let reading = Arc::clone(&self.reading).lock_owned().await;
        let read = move || {
            let _reading = reading;
            read_file(&path)
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(Err(SecretError::Cancelled))
    }

    fn known(&self) -> MutexGuard<'_, Option<SecretString>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn read_file(path: &Path) -> Result<SecretString, SecretError> {
    // Opening a pipe would wait for a writer otherwise.
    let open = || OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
    let read = || {
        let file = open()?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("is no regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(SecretError::Unreadable)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(SecretError::TooLong);
    }
    let text = String::from_utf8(bytes).map_err(|_| SecretError::Unusable("is not UTF-8"))?;
    Secret::parse(&text).map_err(SecretError::Unusable)
}

/// The `Authorization` header of the request that `signed` describes; `None` where no header can carry it.
pub(super) fn authorization(
    credential: &Credential,
    secret: &SecretString,
    signed: &Signed<'_>,
) -> Option<HeaderValue> {
    let secret = secret.expose_secret();
    let text = match credential {
        Credential::Token { prefix, .. } => bearer(prefix, secret),
        Credential::App { app_id, .. } => signed.authorization(app_id.as_str(), secret),
    };
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// A token that bears a scheme (`AT x`, `Bearer x`, or the vendor's literal `Bearer+x`) goes out unchanged.
fn bearer(prefix: &str, token: &str) -> String {
    if token.contains(' ') || token.starts_with("Bearer+") { token.to_owned() } else { format!("{prefix}{token}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let read = SecretReader::new(Secret::File(file.path().to_owned())).read().await;
        read.map(|(secret, _)| secret.expose_secret().to_owned()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_file_may_be_as_long_as_16_kib() {
        let longest = vec![b'h'; 16 * 1024];
        assert_eq!(read(&longest).await.unwrap().len(), 16 * 1024);
        assert!(read(&[&longest[..], b"h"].concat()).await.unwrap_err().contains("longer than 16384 bytes"));
    }

    #[tokio::test]
    async fn a_file_that_holds_no_secret_is_an_error_that_shows_none_of_it() {
        let endless = vec![b'h'; 20_000];
        for content in [&b""[..], b"hunter2\nhunter2", b"hunter2\xff", &endless] {
            let error = read(content).await.unwrap_err();
            assert!(!error.contains("hunter2") && !error.contains("hhh"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_pipe_in_the_place_of_the_file_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = SecretReader::new(Secret::File(pipe));
        assert!(reader.read().await.unwrap_err().to_string().contains("is no regular file"));
    }

    #[tokio::test]
    async fn a_missing_file_is_told_by_its_key_and_not_by_its_path_which_may_be_the_secret() {
        let reader = SecretReader::new(Secret::File("/nonexistent/token".into()));
        let error = reader.read().await.unwrap_err().to_string();
        assert!(error.contains("auth.token_file") && !error.contains("nonexistent"), "{error}");
        assert!(!reader.has_changed().await);
    }

    #[tokio::test]
    async fn another_secret_in_the_file_is_noticed_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = SecretReader::new(Secret::File(file.path().to_owned()));
        for (content, changed, rotated) in
            [("a", true, false), ("a", false, false), ("b", true, true), ("b", false, false)]
        {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(reader.has_changed().await, changed);
            let (secret, is_another) = reader.read().await.unwrap();
            assert_eq!((secret.expose_secret(), is_another), (content, rotated));
        }
    }

    #[test]
    fn a_token_goes_out_behind_its_prefix_unless_it_bears_a_scheme() {
        assert_eq!(bearer("Bearer ", "abc"), "Bearer abc");
        assert_eq!(bearer("Bearer+", "abc"), "Bearer+abc");
        assert_eq!(bearer("", "abc"), "abc");
        for with_scheme in ["Bearer abc", "AT abc", "Bearer+abc"] {
            assert_eq!(bearer("Bearer ", with_scheme), with_scheme);
        }
    }
}
