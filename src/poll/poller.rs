//! One account, one loop: wait for the tick, ask, write down what is known now.

use std::{future::Future, pin::pin, sync::Arc};

use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

use super::{
    schedule::{first_offset, next_tick},
    state::{AccountState, Finished, Now, Slot},
};
use crate::{
    clock::WallClock,
    koodrive::{Client, Exchange},
};

/// Where an account's numbers come from.
pub trait Upstream: Send + Sync + 'static {
    /// One request, given up at `deadline`.
    fn overview(&self, deadline: Instant) -> impl Future<Output = Exchange> + Send;
}

impl Upstream for Client {
    fn overview(&self, deadline: Instant) -> impl Future<Output = Exchange> + Send {
        Client::overview(self, deadline)
    }
}

/// Told of each finished poll before its result becomes visible.
pub type Observer = Arc<dyn Fn(&Finished) + Send + Sync>;

/// The loop of one account.
pub struct Poller<U> {
    /// The account and what is known of it.
    pub slot: Arc<Slot>,
    /// Where its numbers come from.
    pub upstream: Arc<U>,
    /// The bound on polls in flight, over all accounts.
    pub permits: Arc<Semaphore>,
    /// The time of day.
    pub clock: WallClock,
    /// Told of each finished poll.
    pub observer: Observer,
}

impl<U: Upstream> Poller<U> {
    /// Polls on schedule, as one of `accounts`, until the future is dropped.
    pub async fn run(self, accounts: usize) {
        let interval = self.slot.account().poll.interval;
        let mut due = Instant::now() + first_offset(&self.slot.account().alias, accounts, interval);
        loop {
            self.alive_during(sleep_until(due)).await;
            self.poll().await;
            self.slot.beat();
            due = next_tick(due, interval, Instant::now());
        }
    }

    /// Polls once, as soon as a permit is free.
    ///
    /// The request runs in a task of its own, so that a panic ends this poll and not the loop, and an
    /// idle account holds no request's memory.
    pub async fn poll(&self) {
        let Ok(permit) = self.alive_during(Arc::clone(&self.permits).acquire_owned()).await else { return };
        let account = self.slot.account();
        let began = Now { monotonic: Instant::now(), wall: self.clock.now() };
        let deadline = began.monotonic + account.poll.timeout;
        let upstream = Arc::clone(&self.upstream);
        let request = async move {
            let _permit = permit;
            upstream.overview(deadline).await
        };
        match AbortOnDropHandle::new(tokio::spawn(request)).await {
            Ok(exchange) => {
                let duration = began.monotonic.elapsed();
                self.record(Finished { began, duration, exchange });
            }
            Err(panic) => error!(account = account.alias, %panic, "a poll panicked, which is a bug"),
        }
    }

    fn record(&self, finished: Finished) {
        (self.observer)(&finished);
        let trace_id = finished.exchange.trace_id.clone();
        let before = self.slot.state();
        let after = Arc::new(before.after(finished));
        self.slot.replace(Arc::clone(&after));
        log(&self.slot.account().alias, &trace_id, &before, &after);
    }

    /// Waits, and shows meanwhile that the loop is alive.
    async fn alive_during<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        let mut beats = interval(self.slot.account().poll.interval);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = &mut wait => return done,
                _ = beats.tick() => self.slot.beat(),
            }
        }
    }
}

/// One line when an account starts to fail, one when it recovers; all else is for debugging.
fn log(account: &str, trace_id: &str, before: &AccountState, after: &AccountState) {
    let Some(latest) = &after.latest else { return };
    let duration = latest.duration.as_secs_f64();
    match &latest.failure {
        Some((reason, error)) => {
            let reason = reason.as_str();
            if after.failures_in_a_row == 1 {
                warn!(account, reason, %error, trace_id, duration, "polls of this account fail from now on");
            } else {
                debug!(account, reason, %error, trace_id, duration, "poll failed again");
            }
        }
        None if before.failures_in_a_row > 0 => {
            info!(
                account,
                failures = before.failures_in_a_row,
                trace_id,
                duration,
                "polls of this account succeed again"
            );
        }
        None => debug!(account, trace_id, duration, "poll succeeded"),
    }
}
