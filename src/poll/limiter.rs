//! The bound on polls in flight, over all accounts.
//!
//! It is there for file descriptors and politeness, not for scheduling: permits are given in the order in which they
//! are asked for. `docs/configuration.md` has the arithmetic of the bound.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// Permits for polls in flight.
#[derive(Debug, Clone)]
pub struct Limiter {
    permits: Arc<Semaphore>,
    size: usize,
    waiting: TaskTracker,
}

impl Limiter {
    /// At most `size` polls in flight.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(size)), size, waiting: TaskTracker::new() }
    }

    /// Waits for a permit, which ends when it is dropped. `None` never comes: the permits are not closed.
    pub(super) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        let _waiting = self.waiting.token();
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Polls in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.size.saturating_sub(self.permits.available_permits())
    }

    /// Polls that wait for a permit.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn limiter_full_makes_the_next_poll_wait_and_counts_both() {
        let limiter = Limiter::new(2);
        let held = [limiter.acquire().await, limiter.acquire().await];
        let mut third = acquire_in_a_task(limiter.clone());
        tokio::task::yield_now().await;
        assert_eq!((limiter.in_flight(), limiter.waiting(), third.is_finished()), (2, 1, false));
        drop(held);
        assert!((&mut third).await.unwrap().is_some());
        assert_eq!((limiter.in_flight(), limiter.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn limiter_counts_a_poll_out_that_stops_waiting() {
        let limiter = Limiter::new(1);
        let _held = limiter.acquire().await;
        let waiting = acquire_in_a_task(limiter.clone());
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.is_err());
        assert_eq!((limiter.in_flight(), limiter.waiting()), (1, 0));
    }

    fn acquire_in_a_task(limiter: Limiter) -> tokio::task::JoinHandle<Option<()>> {
        tokio::spawn(async move { limiter.acquire().await.map(drop) })
    }
}
