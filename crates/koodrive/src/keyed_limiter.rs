//! A limiter with permits by key, for work that may hang, such as reading a file on a network mount.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::lock;

/// So many permits for each key. A key for which nobody works or waits is forgotten once another comes.
pub(crate) struct KeyedLimiter<K> {
    size: usize,
    by_key: Mutex<BTreeMap<K, Weak<Semaphore>>>,
}

impl<K: Ord> KeyedLimiter<K> {
    pub(crate) const fn new(size: usize) -> Self {
        Self { size, by_key: Mutex::new(BTreeMap::new()) }
    }

    /// Waits for one of the key's permits. It goes along with the work, which nobody may wait for any more, and ends with it.
    pub(crate) async fn acquire(&self, key: K) -> Option<OwnedSemaphorePermit> {
        let permits = {
            let mut by_key = lock(&self.by_key);
            by_key.retain(|_, permits| permits.strong_count() > 0);
            let known = by_key.get(&key).and_then(Weak::upgrade);
            let permits = known.unwrap_or_else(|| Arc::new(Semaphore::new(self.size)));
            by_key.insert(key, Arc::downgrade(&permits));
            permits
        };
        permits.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    static LIMITER: KeyedLimiter<&str> = KeyedLimiter::new(2);

    #[tokio::test(start_paused = true)]
    async fn keyed_limiter_gives_its_permits_to_each_key_and_forgets_keys_that_nobody_waits_for() {
        let acquire = async |key| timeout(Duration::from_secs(1), LIMITER.acquire(key)).await.ok();
        let (one, two) = (acquire("a").await, acquire("a").await);
        assert!(one.is_some() && two.is_some() && acquire("a").await.is_none());
        assert!(acquire("b").await.is_some());
        drop(one);
        assert!(acquire("a").await.is_some());
        drop(two);
        let _third = acquire("c").await;
        assert_eq!(lock(&LIMITER.by_key).keys().copied().collect::<Vec<_>>(), ["c"]);
    }
}
