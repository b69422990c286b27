//! Names looked up by the system's resolver, which blocks a thread for as long as a name server does not answer.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::keyed_limiter::KeyedLimiter;

const MAX_LOOKUPS: usize = 128;

/// Lookups at once in the whole process. They leave threads to read secrets on, even if no name server answers.
static LOOKUPS: Semaphore = Semaphore::const_new(MAX_LOOKUPS);

/// Each name is looked up once at a time: accounts whose name does not resolve hold up those of that name.
static NAMES: KeyedLimiter<String> = KeyedLimiter::new(1);

/// Looks up names.
pub(crate) struct Resolver {
    look_up: fn(&str) -> io::Result<Vec<SocketAddr>>,
}

impl Default for Resolver {
    fn default() -> Self {
        // The port is that of the URL.
        Self { look_up: |name| Ok((name, 0).to_socket_addrs()?.collect()) }
    }
}

/// Why a name has no address, in the system's words.
#[derive(Debug, thiserror::Error)]
#[error("name cannot be resolved (DNS): {0}")]
pub(crate) struct NameError(String);

impl NameError {
    fn new(error: &io::Error) -> Self {
        let words = error.to_string();
        Self(words.trim_start_matches("failed to lookup address information: ").to_owned())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (look_up, name) = (self.look_up, name.as_str().to_owned());
        Box::pin(async move {
            let permits = (NAMES.acquire(name.clone()).await, LOOKUPS.acquire().await?);
            let found = spawn_blocking(move || {
                // Held until the work is done, which nobody may wait for any more.
                let _permits = permits;
                look_up(&name)
            });
            let found: Addrs = Box::new(found.await?.map_err(|error| NameError::new(&error))?.into_iter());
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    static ANSWERS: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    /// A name server that does not answer yet.
    fn hang(name: &str) -> io::Result<Vec<SocketAddr>> {
        BEGUN.fetch_add(1, Ordering::SeqCst);
        drop(ANSWERS.1.wait_while(ANSWERS.0.lock().unwrap(), |answers| !*answers));
        (name, 7).to_socket_addrs().map(Iterator::collect)
    }

    #[tokio::test]
    async fn lookups_leave_threads_for_other_work_and_do_not_look_up_a_name_twice_at_once() {
        let resolver = Arc::new(Resolver { look_up: hang });
        let ask = |name: String| {
            let resolver = Arc::clone(&resolver);
            tokio::spawn(async move { resolver.resolve(name.parse().unwrap()).await.map(Iterator::count) })
        };
        let same: Vec<_> = (0..1000).map(|_| ask("127.0.0.1".to_owned())).collect();
        while BEGUN.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..1000).map(|last| ask(format!("127.0.{}.{}", last / 250, last % 250))).collect();
        while BEGUN.load(Ordering::SeqCst) < MAX_LOOKUPS {
            tokio::task::yield_now().await;
        }
        assert_eq!(spawn_blocking(|| 7).await.unwrap(), 7, "a secret is read all the same");
        assert_eq!(BEGUN.load(Ordering::SeqCst), MAX_LOOKUPS);
        // Who gives up leaves its lookup to end by itself.
        others.iter().for_each(tokio::task::JoinHandle::abort);
        *ANSWERS.0.lock().unwrap() = true;
        ANSWERS.1.notify_all();
        for asked in same {
            assert_eq!(asked.await.unwrap().unwrap(), 1);
        }
    }
}
