//! A limiter with permits by key, for work that may hang, such as reading a file on a network mount.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::lock;

/// So many permits for each key. Nothing is left of a key for which nobody works or waits.
pub(crate) struct KeyedLimiter<K> {
    size: usize,
    by_key: Mutex<BTreeMap<K, Arc<Semaphore>>>,
}

/// Goes along with the work, which nobody may wait for any more, and ends with it.
pub(crate) struct KeyedPermit<K: Ord + 'static> {
    limiter: &'static KeyedLimiter<K>,
    key: K,
    permits: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Ord + Clone> KeyedLimiter<K> {
    pub(crate) const fn new(size: usize) -> Self {
        Self { size, by_key: Mutex::new(BTreeMap::new()) }
    }

    /// Waits for one of the key's permits.
    pub(crate) async fn acquire(&'static self, key: K) -> KeyedPermit<K> {
        let permits = || Arc::new(Semaphore::new(self.size));
        let permits = Arc::clone(lock(&self.by_key).entry(key.clone()).or_insert_with(permits));
        let mut acquired = KeyedPermit { limiter: self, key, permits: Some(Arc::clone(&permits)), permit: None };
        acquired.permit = permits.acquire_owned().await.ok();
        acquired
    }
}

impl<K: Ord + 'static> Drop for KeyedPermit<K> {
    fn drop(&mut self) {
        self.permit = None;
        let mut by_key = lock(&self.limiter.by_key);
        self.permits = None;
        if by_key.get(&self.key).is_some_and(|permits| Arc::strong_count(permits) == 1) {
            by_key.remove(&self.key);
        }
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
        assert!(lock(&LIMITER.by_key).is_empty());
    }
}
