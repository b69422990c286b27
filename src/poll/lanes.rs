//! The bound on polls in flight, of which slow polls hold a third at most while others wait.
//!
//! Without that share, accounts that hang until their timeout would hold all permits, and the others
//! would miss their intervals.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};

/// A poll that takes longer than this is slow, and so is its account until a poll is faster.
pub(super) const SLOW_AFTER: Duration = Duration::from_secs(1);

/// Permits for polls in flight, over all accounts.
#[derive(Debug, Clone)]
pub struct Lanes {
    all: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    queue: watch::Sender<Queue>,
    looking_out: Arc<Mutex<()>>,
}

/// Accounts that are not slow and wait for a permit.
#[derive(Debug, Clone, Copy, Default)]
struct Queue {
    waiting: usize,
    /// For how many of them a slow poll gives way: one for each, and no more.
    promised: usize,
}

/// Leave for one poll. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _one_of_all: OwnedSemaphorePermit,
    slow: Option<OwnedSemaphorePermit>,
}

/// Counts an account that waits, for as long as it does.
struct Waiting<'a>(&'a watch::Sender<Queue>);

impl<'a> Waiting<'a> {
    fn new(queue: &'a watch::Sender<Queue>) -> Self {
        queue.send_modify(|queue| queue.waiting += 1);
        Self(queue)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|queue| {
            queue.waiting -= 1;
            queue.promised = queue.promised.saturating_sub(1).min(queue.waiting);
        });
    }
}

impl Lanes {
    /// At most `concurrency` polls in flight, and at most a third of them slow while others wait.
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        Self::with_share(concurrency, concurrency.div_ceil(3))
    }

    /// At most `concurrency` polls in flight, however slow: for polls that are not to be repeated.
    #[must_use]
    pub fn patient(concurrency: usize) -> Self {
        Self::with_share(concurrency, concurrency)
    }

    fn with_share(concurrency: usize, slow: usize) -> Self {
        let (all, slow) = (Arc::new(Semaphore::new(concurrency)), Arc::new(Semaphore::new(slow)));
        Self { all, slow, queue: watch::Sender::default(), looking_out: Arc::default() }
    }

    /// Waits for leave to poll. A slow account takes one of the slow ones' share, or what nobody waits for.
    pub(super) async fn acquire(&self, slow: bool) -> Option<Permit> {
        if !slow {
            if let Ok(free) = Arc::clone(&self.all).try_acquire_owned() {
                return Some(Permit { _one_of_all: free, slow: None });
            }
            let _waiting = Waiting::new(&self.queue);
            return Some(Permit { _one_of_all: Arc::clone(&self.all).acquire_owned().await.ok()?, slow: None });
        }
        tokio::select! {
            biased;
            share = Arc::clone(&self.slow).acquire_owned() => {
                let one_of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
                Some(Permit { _one_of_all: one_of_all, slow: Some(share.ok()?) })
            }
            one_of_all = self.idle() => Some(Permit { _one_of_all: one_of_all?, slow: None }),
        }
    }

    /// A permit for which nobody else waits.
    async fn idle(&self) -> Option<OwnedSemaphorePermit> {
        // One slow account at a time looks out for it, lest all of them wake whenever others come and go.
        let _looking_out = self.looking_out.lock().await;
        let mut queue = self.queue.subscribe();
        loop {
            queue.wait_for(|queue| queue.waiting == 0).await.ok()?;
            let permit = Arc::clone(&self.all).acquire_owned().await.ok()?;
            if queue.borrow().waiting == 0 {
                return Some(permit);
            }
        }
    }

    /// Waits until a poll that began just now must give way: it is slow, the slow ones' share is
    /// exhausted, and another waits for whom none has given way yet.
    pub(super) async fn must_give_way(&self, permit: &mut Permit) {
        sleep(SLOW_AFTER).await;
        if permit.slow.is_none() {
            tokio::select! {
                biased;
                share = Arc::clone(&self.slow).acquire_owned() => permit.slow = share.ok(),
                () = self.wanted() => return,
            }
        }
        pending::<()>().await;
    }

    /// Waits until somebody waits for whom nobody has given way, and promises to.
    async fn wanted(&self) {
        let mut queue = self.queue.subscribe();
        let promise = |queue: &mut Queue| {
            let wanted = queue.waiting > queue.promised;
            queue.promised += usize::from(wanted);
            wanted
        };
        while !self.queue.send_if_modified(promise) {
            if queue.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_slow_poll_gives_way_for_each_that_waits_and_those_of_the_share_never() {
        let lanes = Lanes::new(9);
        let mut polls = tokio::task::JoinSet::new();
        for _ in 0..9 {
            let mut permit = lanes.acquire(false).await.unwrap();
            let lanes = lanes.clone();
            polls.spawn(async move { lanes.must_give_way(&mut permit).await });
        }
        sleep(SLOW_AFTER * 5).await;
        assert!(polls.try_join_next().is_none(), "nobody waits");
        for given_way in 1..=6 {
            let permit = lanes.acquire(false).await.unwrap();
            sleep(SLOW_AFTER).await;
            while polls.try_join_next().is_some() {}
            assert_eq!(polls.len(), 9 - given_way);
            std::mem::forget(permit);
        }
        assert!(tokio::time::timeout(SLOW_AFTER * 100, lanes.acquire(false)).await.is_err(), "the share is theirs");
        assert_eq!(lanes.queue.borrow().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_account_beyond_the_share_takes_what_nobody_waits_for() {
        let lanes = Lanes::new(3);
        let share = lanes.acquire(true).await.unwrap();
        assert!(share.slow.is_some());
        let beyond = lanes.acquire(true).await.unwrap();
        assert!(beyond.slow.is_none());
        let last = lanes.acquire(false).await.unwrap();
        let waiting = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.acquire(false).await }
        });
        let slow = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.acquire(true).await }
        });
        sleep(SLOW_AFTER).await;
        drop(last);
        let first = waiting.await.unwrap().unwrap();
        assert!(!slow.is_finished());
        drop(first);
        assert!(slow.await.unwrap().unwrap().slow.is_none());
    }
}
