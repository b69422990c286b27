//! Work that may hang, such as reading a file on a network mount: so many at once for each key, and no more threads.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns by key. Nothing is left of a key for which nobody works or waits.
pub(crate) struct Turns<K> {
    at_once: usize,
    by_key: Mutex<BTreeMap<K, Arc<Semaphore>>>,
}

/// Goes along with the work, which nobody may wait for any more, and ends with it.
pub(crate) struct Turn<K: Ord + 'static> {
    turns: &'static Turns<K>,
    key: K,
    places: Option<Arc<Semaphore>>,
    place: Option<OwnedSemaphorePermit>,
}

impl<K: Ord + Clone> Turns<K> {
    pub(crate) const fn new(at_once: usize) -> Self {
        Self { at_once, by_key: Mutex::new(BTreeMap::new()) }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&'static self, key: K) -> Turn<K> {
        let places = || Arc::new(Semaphore::new(self.at_once));
        let places = Arc::clone(self.by_key().entry(key.clone()).or_insert_with(places));
        let mut turn = Turn { turns: self, key, places: Some(Arc::clone(&places)), place: None };
        turn.place = places.acquire_owned().await.ok();
        turn
    }
}

impl<K> Turns<K> {
    fn by_key(&self) -> MutexGuard<'_, BTreeMap<K, Arc<Semaphore>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + 'static> Drop for Turn<K> {
    fn drop(&mut self) {
        self.place = None;
        let mut by_key = self.turns.by_key();
        self.places = None;
        if by_key.get(&self.key).is_some_and(|places| Arc::strong_count(places) == 1) {
            by_key.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    static TURNS: Turns<&str> = Turns::new(2);

    #[tokio::test(start_paused = true)]
    async fn so_many_have_a_turn_at_once_and_other_keys_wait_for_none_of_them() {
        let turn = async |key| timeout(Duration::from_secs(1), TURNS.turn(key)).await.ok();
        let (one, two) = (turn("a").await, turn("a").await);
        assert!(one.is_some() && two.is_some() && turn("a").await.is_none());
        assert!(turn("b").await.is_some());
        drop(one);
        assert!(turn("a").await.is_some());
        drop(two);
        assert!(TURNS.by_key().is_empty(), "what nobody waits for is forgotten");
    }
}
