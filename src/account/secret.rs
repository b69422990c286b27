//! A secret and where it comes from.

use std::{io::Read, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};

/// More than any token or key: a longer file is no secret but a mistake.
const MAX_SECRET_BYTES: u64 = 16 * 1024;

/// A secret, given inline or by a file. It has no `Display`, and its `Debug` shows no character of it.
#[derive(Debug, Clone)]
pub enum Secret {
    /// Given in the configuration or an environment variable.
    Inline(SecretString),
    /// Read from this file anew for each poll, so that a rotated secret is used at once.
    File(PathBuf),
}

impl Secret {
    /// The secret as it is now, without the line end that editors leave behind it.
    ///
    /// `reading` is dropped when the read has ended, which on a hung network mount may be long after this
    /// future was: a lock's guard there bounds the threads that such a file can hold.
    ///
    /// # Errors
    /// When the file can't be read, or what it holds can't be sent in a header.
    pub async fn read(&self, reading: impl Send + 'static) -> Result<SecretString, SecretError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let path = path.clone();
                let read = move || {
                    let _reading = reading;
                    read_file(path)
                };
                tokio::task::spawn_blocking(read).await.unwrap_or(Err(SecretError::Cancelled))
            }
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inline(a), Self::Inline(b)) => a.expose_secret() == b.expose_secret(),
            (Self::File(a), Self::File(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Secret {}

fn read_file(path: PathBuf) -> Result<SecretString, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.clone(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(SecretError::TooLong { path });
    }
    match String::from_utf8(bytes) {
        Ok(text) => check(text.trim_end_matches(['\r', '\n'])).map_err(|what| SecretError::Unusable { path, what }),
        Err(_) => Err(SecretError::Unusable { path, what: "is not UTF-8" }),
    }
}

/// Takes a secret that a header, or the key of a signature, can be made of.
///
/// # Errors
/// Says what is wrong with it, without a character of it.
pub(super) fn check(text: &str) -> Result<SecretString, &'static str> {
    if text.is_empty() {
        Err("is empty")
    } else if text.chars().any(char::is_control) {
        Err("has a line break or another control character inside")
    } else {
        Ok(SecretString::from(text))
    }
}

impl Secret {
    /// Takes a secret that was given inline.
    ///
    /// # Errors
    /// Says what is wrong with it, without a character of it.
    pub fn inline(text: &str) -> Result<Self, &'static str> {
        check(text.trim_end_matches(['\r', '\n'])).map(Self::Inline)
    }
}

/// Why a secret can't be had just now. It shows neither what is in the file nor the file's path: a secret may have been
/// written in the place of its path.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing, or this process may not read it.
    #[error("cannot read the secret's file (auth.token_file or auth.app_secret_file): {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is longer than any secret.
    #[error("the secret's file is longer than {MAX_SECRET_BYTES} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// What the file holds can't be sent.
    #[error("the secret's file {what}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        what: &'static str,
    },
    /// The program is stopping.
    #[error("reading the secret was cancelled")]
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let secret = Secret::File(file.path().to_owned()).read(()).await;
        secret.map(|secret| secret.expose_secret().to_owned()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_line_end_after_a_secret_is_dropped_and_nothing_else() {
        assert_eq!(read(b"abc").await.unwrap(), "abc");
        assert_eq!(read(b"abc\n").await.unwrap(), "abc");
        assert_eq!(read(b"abc\r\n").await.unwrap(), "abc");
        assert_eq!(read(b" a bc ").await.unwrap(), " a bc ");
    }

    #[tokio::test]
    async fn a_file_that_holds_no_secret_is_an_error_that_shows_none_of_it() {
        let endless = vec![b'h'; 20_000];
        for content in [&b""[..], b"\n", b"hunter2\nhunter2", b"hunter2\xff", &endless] {
            let error = read(content).await.unwrap_err();
            assert!(!error.contains("hunter2") && !error.contains("hhh"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_missing_file_is_told_by_its_key_and_not_by_its_path_which_may_be_the_secret() {
        let error = Secret::File("/nonexistent/token".into()).read(()).await.unwrap_err();
        assert!(error.to_string().contains("auth.token_file") && !error.to_string().contains("nonexistent"), "{error}");
    }

    #[test]
    fn debug_shows_nothing_of_an_inline_secret() {
        let secret = Secret::inline("hunter2").unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
