//! Basic authentication (RFC 7617) against bcrypt hashes.
//!
//! A bcrypt hash is slow on purpose. One core at most checks passwords, a few requests wait for it, and
//! whatever was checked once is remembered by a keyed digest, so that neither the password nor anything to guess
//! it by stays in memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, Weak},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use hyper::{HeaderMap, header::AUTHORIZATION};
use rustls::crypto::ring;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::{connections::network, lock, web_config::PasswordHash};

/// Credentials of one peer that wait to be checked; a further one gets 429.
const MAX_WAITING_OF_PEER: usize = 4;

/// Credentials that are remembered: those that were right can't be driven out by those that were not.
const MAX_REMEMBERED: usize = 256;

/// What is said to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may have what it asks for.
    Granted,
    /// It bears no credential or a wrong one.
    Denied,
    /// Too many passwords are being checked.
    Busy,
}

/// Who may pass.
pub(crate) type Users = BTreeMap<String, PasswordHash>;

type Digest = [u8; 32];

/// Checks credentials, and remembers the outcome.
pub(crate) struct PasswordChecker {
    /// With a key of its own, and nothing else yet.
    mac: Hmac<Sha256>,
    checking: Arc<Semaphore>,
    waiting: Mutex<Queue>,
    remembered: Arc<Mutex<Remembered>>,
}

#[derive(Default)]
struct Remembered {
    right: VecDeque<Digest>,
    wrong: VecDeque<Digest>,
}

impl PasswordChecker {
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        // As long as a block of SHA-256.
        let mut key = [0; 64];
        ring::default_provider().secure_random.fill(&mut key).map_err(|_| rustls::Error::FailedToGetRandomBytes)?;
        let mac = Hmac::new(&key.into());
        Ok(Self { mac, checking: Arc::new(Semaphore::new(1)), waiting: Mutex::default(), remembered: Arc::default() })
    }

    /// Whether one of `users` sent these headers from `peer`. It takes as long for a name that nobody has, and for
    /// users whose hashes differ in cost.
    pub(crate) async fn check(&self, users: &Users, headers: &HeaderMap, peer: Option<IpAddr>) -> Verdict {
        let Some((name, password)) = credential(headers) else { return Verdict::Denied };
        let user = users.get(&name).cloned();
        let digest = self.digest(&name, &password, user.as_ref());
        if let Some(verdict) = lock(&self.remembered).verdict(&digest) {
            return verdict;
        }
        let Some(waiting) = self.enter((peer.map(network), digest)) else { return Verdict::Busy };
        // One credential of each peer at a time waits for the others': who guesses much waits for itself.
        let Ok(_permit_of_peer) = waiting.0.acquire().await else { return Verdict::Busy };
        let Ok(permit) = Arc::clone(&self.checking).acquire_owned().await else { return Verdict::Busy };
        // The one before may have asked the same.
        if let Some(verdict) = lock(&self.remembered).verdict(&digest) {
            return verdict;
        }
        // One hash of each cost is computed, the user's own among them.
        let mut hashes: BTreeMap<u32, PasswordHash> = users.values().map(|hash| (hash.cost(), hash.clone())).collect();
        hashes.extend(user.iter().map(|hash| (hash.cost(), hash.clone())));
        let remembered = Arc::clone(&self.remembered);
        let verify = move || {
            // Held until the work is done, which a client that goes away does not stop. It is not done for nothing:
            // when the client comes again, the outcome is known.
            let _permit = permit;
            let matches =
                |hash: &PasswordHash| bcrypt::verify(password.expose_secret(), hash.expose()).unwrap_or(false);
            let mut granted = false;
            for hash in hashes.values() {
                granted |= matches(hash) && Some(hash) == user.as_ref();
            }
            lock(&remembered).add(digest, granted);
            granted
        };
        let Ok(granted) = tokio::task::spawn_blocking(verify).await else { return Verdict::Busy };
        if granted { Verdict::Granted } else { Verdict::Denied }
    }

    /// Waits from now on, until what this returns is dropped; `None` where too many credentials of the peer do.
    fn enter(&self, key: (Option<IpAddr>, Digest)) -> Option<Arc<Waiting>> {
        let mut queue = lock(&self.waiting);
        queue.retain(|_, waiting| waiting.strong_count() > 0);
        if let Some(same) = queue.get(&key).and_then(Weak::upgrade) {
            return Some(same);
        }
        let of_peer = queue.iter().filter(|((peer, _), _)| *peer == key.0);
        let others: Vec<_> = of_peer.filter_map(|(_, waiting)| waiting.upgrade()).collect();
        if others.len() >= MAX_WAITING_OF_PEER {
            return None;
        }
        let of_peer = others.first().map_or_else(|| Arc::new(Semaphore::new(1)), |other| Arc::clone(&other.0));
        let waiting = Arc::new(Waiting(of_peer));
        queue.insert(key, Arc::downgrade(&waiting));
        Some(waiting)
    }

    /// Stands for a name, a password and the hash it is held against, all of which must be the same again.
    fn digest(&self, name: &str, password: &SecretString, hash: Option<&PasswordHash>) -> Digest {
        let mut mac = self.mac.clone();
        for part in [name, password.expose_secret(), hash.map_or("", PasswordHash::expose)] {
            mac.update(&part.len().to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

/// The requests that wait, by peer and credential: no more than there are connections. Those that do no longer are forgotten
/// when the next one comes.
type Queue = HashMap<(Option<IpAddr>, Digest), Weak<Waiting>>;

/// What requests of one peer with one credential share while they wait. All of one peer have the same semaphore.
struct Waiting(Arc<Semaphore>);

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
    use std::collections::HashSet;

    use hyper::header::HeaderValue;

    use super::*;
    use crate::web_config::WebConfig;

    const COST: u32 = 4;

    fn users(passwords: &[(&str, &str)]) -> Users {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        let lines = passwords.iter().map(|(name, password)| {
            let hash = bcrypt::hash(password, COST).unwrap();
            format!("  {name}: {hash}\n")
        });
        std::fs::write(&path, format!("basic_auth_users:\n{}", lines.collect::<String>())).unwrap();
        WebConfig::load(&path).unwrap().users
    }

    fn basic(name: &str, password: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")));
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&value).unwrap())])
    }

    #[tokio::test]
    async fn a_user_passes_with_the_right_password_alone() {
        let (checker, users) = (PasswordChecker::new().unwrap(), users(&[("alice", "p:w ü"), ("bob", "other")]));
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
                assert_eq!(checker.check(&users, &basic(name, password), None).await, expected, "{name} {password}");
            }
        }
    }

    #[tokio::test]
    async fn users_may_have_hashes_of_different_costs() {
        let (checker, mut users) = (PasswordChecker::new().unwrap(), users(&[("alice", "a"), ("bob", "b")]));
        let costly = bcrypt::hash("c", COST + 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("w"), format!("basic_auth_users: {{ carol: \"{costly}\" }}")).unwrap();
        users.extend(WebConfig::load(&folder.path().join("w")).unwrap().users);
        for (name, password, expected) in [
            ("alice", "a", Verdict::Granted),
            ("bob", "b", Verdict::Granted),
            ("carol", "c", Verdict::Granted),
            ("alice", "c", Verdict::Denied),
            ("carol", "a", Verdict::Denied),
            ("bob", "a", Verdict::Denied),
            ("nobody", "b", Verdict::Denied),
        ] {
            assert_eq!(checker.check(&users, &basic(name, password), None).await, expected, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_no_basic_credential_is_denied() {
        let (checker, users) = (PasswordChecker::new().unwrap(), users(&[("alice", "pw")]));
        let good = basic("alice", "pw");
        let mut twice = good.clone();
        twice.append(AUTHORIZATION, good[AUTHORIZATION].clone());
        let text = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        for headers in
            [HeaderMap::new(), twice, text("Basic"), text("Basic !"), text("Bearer YWxpY2U6cHc="), text("Basic YQ==")]
        {
            assert_eq!(checker.check(&users, &headers, None).await, Verdict::Denied, "{headers:?}");
        }
        assert_eq!(checker.check(&users, &text("bASIC YWxpY2U6cHc="), None).await, Verdict::Granted);
    }

    #[tokio::test]
    async fn a_new_password_ends_the_old_one_at_once() {
        let (checker, before, after) =
            (PasswordChecker::new().unwrap(), users(&[("alice", "old")]), users(&[("alice", "new")]));
        assert_eq!(checker.check(&before, &basic("alice", "old"), None).await, Verdict::Granted);
        assert_eq!(checker.check(&after, &basic("alice", "old"), None).await, Verdict::Denied);
        assert_eq!(checker.check(&after, &basic("alice", "new"), None).await, Verdict::Granted);
    }

    /// The peer of each credential for which requests wait.
    fn waiting_peers(checker: &PasswordChecker) -> Vec<Option<IpAddr>> {
        let queue = lock(&checker.waiting);
        queue.iter().filter(|(_, waiting)| waiting.strong_count() > 0).map(|((peer, _), _)| *peer).collect()
    }

    #[tokio::test]
    async fn guessing_neither_queues_up_nor_drives_out_who_is_known() {
        let (checker, users) = (Arc::new(PasswordChecker::new().unwrap()), users(&[("alice", "pw")]));
        assert_eq!(checker.check(&users, &basic("alice", "pw"), None).await, Verdict::Granted);
        let permit = Arc::clone(&checker.checking).acquire_owned().await.unwrap();
        let guess = |peer: Option<IpAddr>, number: usize| {
            let (checker, users) = (Arc::clone(&checker), users.clone());
            let name = if number.is_multiple_of(2) { "alice" } else { "nobody" };
            tokio::spawn(async move { checker.check(&users, &basic(name, &number.to_string()), peer).await })
        };
        let guesses: Vec<_> = (0..MAX_WAITING_OF_PEER).map(|number| guess(None, number)).collect();
        let waiting = || waiting_peers(&checker).len();
        while waiting() < MAX_WAITING_OF_PEER {
            tokio::task::yield_now().await;
        }
        let again = guess(None, 0);
        let other_peer = guess(Some([192, 0, 2, 1].into()), 1000);
        while waiting() <= MAX_WAITING_OF_PEER {
            tokio::task::yield_now().await;
        }
        assert_eq!(checker.check(&users, &basic("alice", "one more"), None).await, Verdict::Busy);
        assert_eq!(checker.check(&users, &basic("alice", "pw"), None).await, Verdict::Granted);
        drop(permit);
        for guess in guesses.into_iter().chain([other_peer, again]) {
            assert_eq!(guess.await.unwrap(), Verdict::Denied);
        }
        assert_eq!(waiting(), 0);
        for guess in 0..MAX_REMEMBERED {
            lock(&checker.remembered).add([u8::try_from(guess % 256).unwrap(); 32], false);
        }
        assert_eq!(lock(&checker.remembered).wrong.len(), MAX_REMEMBERED);
        assert_eq!(
            lock(&checker.remembered).verdict(&checker.digest("alice", &"pw".into(), users.get("alice"))),
            Some(Verdict::Granted)
        );
    }

    #[tokio::test]
    async fn outcome_is_remembered_though_the_client_has_left() {
        let (checker, users) = (Arc::new(PasswordChecker::new().unwrap()), users(&[("alice", "pw")]));
        let headers = basic("alice", "pw");
        let digest = checker.digest("alice", &"pw".into(), users.get("alice"));
        {
            let mut check = std::pin::pin!(checker.check(&users, &headers, None));
            std::future::poll_fn(|context| {
                assert!(check.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
        }
        while lock(&checker.remembered).verdict(&digest).is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(lock(&checker.remembered).verdict(&digest), Some(Verdict::Granted));
    }

    #[tokio::test]
    async fn many_who_guess_hold_up_nobody_else() {
        let (checker, users) = (Arc::new(PasswordChecker::new().unwrap()), users(&[("alice", "pw")]));
        let permit = Arc::clone(&checker.checking).acquire_owned().await.unwrap();
        let ask = |peer: IpAddr, password: String| {
            let (checker, users) = (Arc::clone(&checker), users.clone());
            tokio::spawn(async move {
                let verdict = checker.check(&users, &basic("alice", &password), Some(peer)).await;
                (verdict, waiting_peers(&checker).len())
            })
        };
        let addresses: Vec<IpAddr> = (0..64).map(|last| [192, 0, 2, last].into()).collect();
        for (address, guess) in addresses.iter().flat_map(|address| (0..4).map(move |guess| (*address, guess))) {
            ask(address, format!("guess {guess}"));
        }
        // The addresses of one network are one peer.
        for last in 0..64 {
            ask([0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into(), format!("guess {last}"));
        }
        let right = ask([198, 51, 100, 1].into(), "pw".to_owned());
        while waiting_peers(&checker).iter().collect::<HashSet<_>>().len() < addresses.len() + 2 {
            tokio::task::yield_now().await;
        }
        let of_network =
            waiting_peers(&checker).into_iter().filter(|peer| peer.is_some_and(|peer| peer.is_ipv6())).count();
        assert_eq!(of_network, MAX_WAITING_OF_PEER);
        drop(permit);
        let (verdict, left) = right.await.unwrap();
        assert_eq!(verdict, Verdict::Granted);
        assert!(left > 64, "it was checked before the second guess of each of the others: {left}");
    }
}
