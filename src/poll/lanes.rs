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
    /// How many accounts that are not slow wait for a permit.
    waiting: watch::Sender<usize>,
    looking_out: Arc<Mutex<()>>,
}

/// Leave for one poll. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _one_of_all: OwnedSemaphorePermit,
    slow: Option<OwnedSemaphorePermit>,
}

/// Counts an account that waits, for as long as it does.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
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
        Self { all, slow, waiting: watch::Sender::default(), looking_out: Arc::default() }
    }

    /// Waits for leave to poll. A slow account takes one of the slow ones' share, or what nobody waits for.
    pub(super) async fn acquire(&self, slow: bool) -> Option<Permit> {
        if !slow {
            let _waiting = Waiting::new(&self.waiting);
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
        let mut waiting = self.waiting.subscribe();
        loop {
            waiting.wait_for(|waiting| *waiting == 0).await.ok()?;
            let permit = Arc::clone(&self.all).acquire_owned().await.ok()?;
            if *waiting.borrow() == 0 {
                return Some(permit);
            }
        }
    }

    /// Waits until a poll that began just now must give way: it is slow, the slow ones' share is
    /// exhausted, and others wait.
    pub(super) async fn must_give_way(&self, permit: &mut Permit) {
        sleep(SLOW_AFTER).await;
        let mut waiting = self.waiting.subscribe();
        if permit.slow.is_none() {
            tokio::select! {
                biased;
                share = Arc::clone(&self.slow).acquire_owned() => permit.slow = share.ok(),
                _ = waiting.wait_for(|waiting| *waiting > 0) => return,
            }
        }
        pending::<()>().await;
    }
}
