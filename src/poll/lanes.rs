//! The bound on polls in flight, of which slow polls hold a third at most while others wait.
//!
//! Without that share, accounts that hang until their timeout would hold all permits, and the others
//! would miss their intervals.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

/// A poll that takes longer than this is slow, and so is its account until a poll is faster.
pub(super) const SLOW_AFTER: Duration = Duration::from_secs(1);

/// How often slow ones beyond their share look whether others wait.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Permits for polls in flight, over all accounts.
#[derive(Debug, Clone)]
pub struct Lanes {
    all: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    /// Accounts that are not slow and wait for a permit.
    waiting: Arc<AtomicUsize>,
}

/// Leave for one poll. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _one_of_all: OwnedSemaphorePermit,
    slow: Option<OwnedSemaphorePermit>,
}

/// Counts an account that waits, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
        Self { all, slow, waiting: Arc::default() }
    }

    /// Waits for leave to poll. A slow account takes one of the slow ones' share, or what nobody waits for.
    pub(super) async fn acquire(&self, slow: bool) -> Option<Permit> {
        if !slow {
            let _waiting = Waiting::new(&self.waiting);
            return Some(Permit { _one_of_all: Arc::clone(&self.all).acquire_owned().await.ok()?, slow: None });
        }
        loop {
            if let Ok(share) = timeout(LOOK_AGAIN_AFTER, Arc::clone(&self.slow).acquire_owned()).await {
                let one_of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
                return Some(Permit { _one_of_all: one_of_all, slow: Some(share.ok()?) });
            }
            if let (false, Ok(one_of_all)) = (self.others_wait(), Arc::clone(&self.all).try_acquire_owned()) {
                return Some(Permit { _one_of_all: one_of_all, slow: None });
            }
        }
    }

    /// Waits until a poll that began just now must give way: it is slow, the slow ones' share is
    /// exhausted, and others wait.
    pub(super) async fn must_give_way(&self, permit: &mut Permit) {
        sleep(SLOW_AFTER).await;
        while permit.slow.is_none() {
            match Arc::clone(&self.slow).try_acquire_owned() {
                Ok(share) => permit.slow = Some(share),
                Err(_) if self.others_wait() => return,
                Err(_) => sleep(LOOK_AGAIN_AFTER).await,
            }
        }
        pending::<()>().await;
    }

    fn others_wait(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}
