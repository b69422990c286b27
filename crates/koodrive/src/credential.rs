//! An account's credential at the moment of a request: read, put into a header, and kept out of what is said.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use nix::{libc::O_NONBLOCK, unistd::geteuid};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    account::Credential,
    keyed_limiter::KeyedLimiter,
    lock,
    secret::{Secret, SecretSource},
    signature::Signed,
};

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

/// Why a secret can't be had just now: the key of its file, the path, who read it, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {file}, read as user {user}: {problem}")]
pub struct SecretError {
    key: &'static str,
    file: String,
    user: u32,
    problem: io::Error,
}

impl SecretError {
    /// `problem` shows nothing of what is in the file.
    fn new(key: &'static str, file: String, problem: io::Error) -> Self {
        Self { key, file, user: geteuid().as_raw(), problem }
    }
}

/// Reading a file on a hung network mount may go on long after nobody waits for it any more. Such a file costs one thread,
/// and not one for each poll.
static FILES: KeyedLimiter<PathBuf> = KeyedLimiter::new(1);

/// Such a mount costs so many of the process's 512 threads for what may block, and leaves the others to other files.
static FOLDERS: KeyedLimiter<PathBuf> = KeyedLimiter::new(64);

/// Reads one account's secret, and knows what it read last.
#[derive(Debug, Clone, Default)]
pub(super) struct SecretReader(Arc<Mutex<Option<SecretString>>>);

impl SecretReader {
    /// The secret as it is now, and whether that is another one than before.
    pub(super) async fn read(&self, credential: &Credential) -> Result<(SecretString, bool), SecretError> {
        let secret = self.now(credential).await?;
        let before = lock(&self.0).replace(secret.clone());
        let rotated = before.is_some_and(|before| before.expose_secret() != secret.expose_secret());
        Ok((secret, rotated))
    }

    /// Whether the secret is another one now than it was when it was last read.
    pub(super) async fn has_changed(&self, credential: &Credential) -> bool {
        let Ok(secret) = self.now(credential).await else { return false };
        lock(&self.0).as_ref().is_none_or(|known| known.expose_secret() != secret.expose_secret())
    }

    async fn now(&self, credential: &Credential) -> Result<SecretString, SecretError> {
        let secret = credential.secret().clone();
        let SecretSource::File { path, .. } = &secret.source else { return secret.read() };
        let (key, folder) = (secret.key, path.parent().unwrap_or(path).to_owned());
        let permits = (FILES.acquire(path.clone()).await, FOLDERS.acquire(folder).await);
        let read = move || {
            let _permits = permits;
            secret.read()
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| {
            // The program is stopping.
            Err(SecretError::new(key, "the file".to_owned(), io::Error::other("reading it was cancelled")))
        })
    }
}

impl Secret {
    /// The secret as it is now.
    ///
    /// # Errors
    /// When its file can't be read or holds none.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match &self.source {
            SecretSource::Inline(secret) => Ok(secret.clone()),
            SecretSource::File { path, .. } => secret_in(path)
                .map_err(|problem| SecretError::new(self.key, self.shown_path().unwrap_or_default(), problem)),
        }
    }
}

fn secret_in(path: &Path) -> io::Result<SecretString> {
    // Opening a pipe would wait for a writer otherwise.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(io::Error::other(format!("is longer than {MAX_SECRET_BYTES} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("is not UTF-8"))?;
    Secret::parse(&text).map_err(io::Error::other)
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

    fn token_in(file: &Path) -> Credential {
        let source = SecretSource::File { path: file.to_owned(), is_absolute: false };
        let token = Secret { key: "auth.token_file", source };
        Credential::Token { token, prefix: String::new() }
    }

    async fn read(content: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let read = SecretReader::default().read(&token_in(file.path())).await;
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
        let error = SecretReader::default().read(&token_in(&pipe)).await.unwrap_err().to_string();
        assert!(error.contains("is no regular file"), "{error}");
    }

    #[tokio::test]
    async fn an_error_names_key_path_and_user_but_no_path_that_leads_nowhere_which_may_be_the_secret() {
        let (folder, reader) = (tempfile::tempdir().unwrap(), SecretReader::default());
        let error = async |path: &Path| reader.read(&token_in(path)).await.unwrap_err().to_string();
        let folder_name = folder.path().display();
        let user = geteuid();
        assert_eq!(
            error(folder.path()).await,
            format!("auth.token_file: {folder_name}, read as user {user}: it is no regular file")
        );
        let missing = error(&folder.path().join("hunter2")).await;
        assert!(
            missing
                .starts_with(&format!("auth.token_file: a file in {folder_name}, read as user {user}: No such file"))
        );
        for secret in ["hunter2", "/nonexistent/hunter2"] {
            let nowhere = error(Path::new(secret)).await;
            assert!(
                nowhere.starts_with("auth.token_file: the file, read as user ") && !nowhere.contains("hunter2"),
                "{nowhere}"
            );
        }
        assert!(!reader.has_changed(&token_in(folder.path())).await);
        let source = SecretSource::File { path: folder.path().join("absolute"), is_absolute: true };
        let secret = Secret { key: "auth.app_secret_file", source };
        let app = Credential::App { app_id: crate::AppId::parse("a").unwrap(), secret };
        let absolute = reader.read(&app).await.unwrap_err().to_string();
        assert!(
            absolute.starts_with(&format!("auth.app_secret_file: {folder_name}/absolute, read as user")),
            "{absolute}"
        );
    }

    #[tokio::test]
    async fn another_secret_in_the_file_is_noticed_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (reader, token) = (SecretReader::default(), token_in(file.path()));
        for (content, changed, rotated) in
            [("a", true, false), ("a", false, false), ("b", true, true), ("b", false, false)]
        {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(reader.has_changed(&token).await, changed);
            let (secret, is_another) = reader.read(&token).await.unwrap();
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
