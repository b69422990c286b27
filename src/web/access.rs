//! Basic authentication (RFC 7617) against bcrypt hashes.
//!
//! A bcrypt hash is slow on purpose. One core at most checks passwords, a few requests wait for it, and
//! whatever was checked once is remembered by a keyed digest, so that neither the password nor anything to guess
//! it by stays in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use hyper::{HeaderMap, header::AUTHORIZATION};
use rustls::crypto::ring;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::config::PasswordHash;

/// Requests that wait while a password is checked; a further one is told to come again.
const MAX_WAITING: usize = 16;

/// Credentials that are remembered: those that were right can't be driven out by those that were not.
const MAX_REMEMBERED: usize = 256;

/// What is said to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may have what it asks for.
    Granted,
    /// It bears no credential or a wrong one.
    Denied,
    /// Too many passwords are being checked.
    Busy,
}

/// Who may pass.
pub(super) type Users = BTreeMap<String, PasswordHash>;

type Digest = [u8; 32];

/// Checks credentials, and remembers the outcome.
pub(super) struct Checker {
    key: Digest,
    checking: Arc<Semaphore>,
    waiting: Semaphore,
    remembered: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    right: VecDeque<Digest>,
    wrong: VecDeque<Digest>,
}

impl Checker {
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let mut key = Digest::default();
        ring::default_provider().secure_random.fill(&mut key).map_err(|_| rustls::Error::FailedToGetRandomBytes)?;
        Ok(Self {
            key,
            checking: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(MAX_WAITING),
            remembered: Mutex::default(),
        })
    }

    /// Whether one of `users` sent these headers. It takes as long for a name that nobody has.
    pub(super) async fn check(&self, users: &Users, headers: &HeaderMap) -> Verdict {
        let Some((name, password)) = credential(headers) else { return Verdict::Denied };
        let user = users.get(&name);
        let Some(hash) = user.or_else(|| users.values().max_by_key(|hash| hash.cost())) else {
            return Verdict::Denied;
        };
        let digest = self.digest(&name, &password, hash);
        if let Some(verdict) = self.remembered().verdict(&digest) {
            return verdict;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Verdict::Busy };
        let Ok(turn) = Arc::clone(&self.checking).acquire_owned().await else { return Verdict::Busy };
        // Whoever was before may have asked the same.
        if let Some(verdict) = self.remembered().verdict(&digest) {
            return verdict;
        }
        let hash = hash.clone();
        let verify = move || {
            // Held until the work is done, which a client that goes away does not stop.
            let _turn = turn;
            bcrypt::verify(password.expose_secret(), hash.expose()).unwrap_or(false)
        };
        let Ok(matches) = tokio::task::spawn_blocking(verify).await else { return Verdict::Busy };
        let granted = matches && user.is_some();
        self.remembered().add(digest, granted);
        if granted { Verdict::Granted } else { Verdict::Denied }
    }

    /// Stands for a name, a password and the hash it is held against, all of which must be the same again.
    fn digest(&self, name: &str, password: &SecretString, hash: &PasswordHash) -> Digest {
        // HMAC takes a key of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return Digest::default() };
        for part in [name, password.expose_secret(), hash.expose()] {
            mac.update(&part.len().to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn verdict(&self, digest: &Digest) -> Option<Verdict> {
        if self.right.contains(digest) {
            Some(Verdict::Granted)
        } else {
            self.wrong.contains(digest).then_some(Verdict::Denied)
        }
    }

    fn add(&mut self, digest: Digest, granted: bool) {
        let list = if granted { &mut self.right } else { &mut self.wrong };
        if list.len() == MAX_REMEMBERED {
            list.pop_front();
        }
        list.push_back(digest);
    }
}

/// The name and the password of the one `Authorization` header.
fn credential(headers: &HeaderMap) -> Option<(String, SecretString)> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = SecretString::from(String::from_utf8(BASE64_STANDARD.decode(token.trim()).ok()?).ok()?);
    let (name, password) = decoded.expose_secret().split_once(':')?;
    Some((name.to_owned(), SecretString::from(password)))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::config::WebFile;

    const COST: u32 = 4;

    fn users(passwords: &[(&str, &str)]) -> Users {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        let lines = passwords.iter().map(|(name, password)| {
            let hash = bcrypt::hash(password, COST).unwrap();
            format!("  {name}: {hash}\n")
        });
        std::fs::write(&path, format!("basic_auth_users:\n{}", lines.collect::<String>())).unwrap();
        WebFile::load(&path).unwrap().users
    }

    fn basic(name: &str, password: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")));
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&value).unwrap())])
    }

    #[tokio::test]
    async fn a_user_passes_with_the_right_password_alone() {
        let (checker, users) = (Checker::new().unwrap(), users(&[("alice", "p:w ü"), ("bob", "other")]));
        // The second time it is remembered.
        for _ in 0..2 {
            for (name, password, expected) in [
                ("alice", "p:w ü", Verdict::Granted),
                ("bob", "other", Verdict::Granted),
                ("alice", "other", Verdict::Denied),
                ("Alice", "p:w ü", Verdict::Denied),
                ("alice", "", Verdict::Denied),
                ("", "other", Verdict::Denied),
                ("nobody", "p:w ü", Verdict::Denied),
                ("nobody", "other", Verdict::Denied),
            ] {
                assert_eq!(checker.check(&users, &basic(name, password)).await, expected, "{name} {password}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_basic_credential_is_denied() {
        let (checker, users) = (Checker::new().unwrap(), users(&[("alice", "pw")]));
        let good = basic("alice", "pw");
        let mut twice = good.clone();
        twice.append(AUTHORIZATION, good[AUTHORIZATION].clone());
        let text = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        for headers in
            [HeaderMap::new(), twice, text("Basic"), text("Basic !"), text("Bearer YWxpY2U6cHc="), text("Basic YQ==")]
        {
            assert_eq!(checker.check(&users, &headers).await, Verdict::Denied, "{headers:?}");
        }
        assert_eq!(checker.check(&users, &text("bASIC YWxpY2U6cHc=")).await, Verdict::Granted);
    }

    #[tokio::test]
    async fn a_new_password_ends_the_old_one_at_once() {
        let (checker, before, after) =
            (Checker::new().unwrap(), users(&[("alice", "old")]), users(&[("alice", "new")]));
        assert_eq!(checker.check(&before, &basic("alice", "old")).await, Verdict::Granted);
        assert_eq!(checker.check(&after, &basic("alice", "old")).await, Verdict::Denied);
        assert_eq!(checker.check(&after, &basic("alice", "new")).await, Verdict::Granted);
    }

    #[tokio::test]
    async fn guessing_neither_queues_up_nor_drives_out_who_is_known() {
        let (checker, users) = (Arc::new(Checker::new().unwrap()), users(&[("alice", "pw")]));
        assert_eq!(checker.check(&users, &basic("alice", "pw")).await, Verdict::Granted);
        let turn = Arc::clone(&checker.checking).acquire_owned().await.unwrap();
        let guesses = (0..MAX_WAITING).map(|guess| {
            let (checker, users) = (Arc::clone(&checker), users.clone());
            tokio::spawn(async move { checker.check(&users, &basic("alice", &guess.to_string())).await })
        });
        let guesses: Vec<_> = guesses.collect();
        while checker.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(checker.check(&users, &basic("alice", "one more")).await, Verdict::Busy);
        assert_eq!(checker.check(&users, &basic("alice", "pw")).await, Verdict::Granted);
        drop(turn);
        for guess in guesses {
            assert_eq!(guess.await.unwrap(), Verdict::Denied);
        }
        for guess in 0..MAX_REMEMBERED {
            checker.remembered().add([u8::try_from(guess % 256).unwrap(); 32], false);
        }
        assert_eq!(checker.remembered().wrong.len(), MAX_REMEMBERED);
        assert_eq!(
            checker.remembered().verdict(&checker.digest("alice", &"pw".into(), &users["alice"])),
            Some(Verdict::Granted)
        );
    }
}
