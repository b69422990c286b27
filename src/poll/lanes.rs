//! The bound on polls in flight, of which slow polls may hold half.
//!
//! Without that share, accounts that hang until their timeout would hold all permits, and the others
//! would miss their intervals.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// A poll that takes longer than this is slow, and so is its account until a poll is faster.
pub(super) const SLOW_AFTER: Duration = Duration::from_millis(500);

/// How often a slow poll beyond the slow ones' share looks whether it holds up others.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Permits for polls in flight, over all accounts.
#[derive(Debug, Clone)]
pub struct Lanes {
    all: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

/// Leave for one poll. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _one_of_all: OwnedSemaphorePermit,
    slow: Option<OwnedSemaphorePermit>,
}

impl Lanes {
    /// At most `concurrency` polls in flight, and at most half of them slow.
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(concurrency)), slow: Arc::new(Semaphore::new(concurrency.div_ceil(2))) }
    }

    /// Waits for leave to poll; a slow account waits for the slow ones' share first.
    pub(super) async fn acquire(&self, slow: bool) -> Option<Permit> {
        let slow = if slow { Some(Arc::clone(&self.slow).acquire_owned().await.ok()?) } else { None };
        Some(Permit { _one_of_all: Arc::clone(&self.all).acquire_owned().await.ok()?, slow })
    }

    /// Waits until a poll that began just now must give way: it is slow, the slow ones' share is
    /// exhausted, and no permit is left for others.
    pub(super) async fn must_give_way(&self, permit: &mut Permit) {
        sleep(SLOW_AFTER).await;
        while permit.slow.is_none() {
            match Arc::clone(&self.slow).try_acquire_owned() {
                Ok(share) => permit.slow = Some(share),
                Err(_) if self.all.available_permits() == 0 => return,
                Err(_) => sleep(LOOK_AGAIN_AFTER).await,
            }
        }
        pending::<()>().await;
    }
}
