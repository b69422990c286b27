//! One account, one loop: wait for the tick, ask, write down what is known now.

use std::{future::Future, pin::pin, sync::Arc};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::{
    attempts::{self, Progress},
    board::Slot,
    lanes::{Lanes, Permit, SLOW_AFTER},
    schedule::{first_offset, next_poll, next_tick},
    state::{AccountState, Failure, Finished},
};
use crate::{
    clock::WallClock,
    koodrive::{Client, Exchange, PollError},
};

/// Where an account's numbers come from.
pub trait Upstream: Send + Sync + 'static {
    /// One request, given up at `deadline`.
    fn overview(&self, deadline: Instant) -> impl Future<Output = Exchange> + Send;

    /// Whether the request of a refused exchange would go out with another secret or date now.
    fn would_differ(&self, refused: &Exchange) -> impl Future<Output = bool> + Send;
}

impl Upstream for Client {
    fn overview(&self, deadline: Instant) -> impl Future<Output = Exchange> + Send {
        Client::overview(self, deadline)
    }

    fn would_differ(&self, refused: &Exchange) -> impl Future<Output = bool> + Send {
        Client::would_differ(self, refused)
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
    pub lanes: Lanes,
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
            self.slot.set_due(self.clock.moment_at(due));
            self.alive_during(sleep_until(due)).await;
            // After a pause of the whole process everybody's tick has passed: each waits for its next one.
            if due.elapsed() >= interval {
                due = next_tick(due, interval, Instant::now());
                continue;
            }
            self.poll().await;
            due = next_poll(self.slot.account(), &self.slot.state(), due, Instant::now());
        }
    }

    /// Polls once, as soon as there is leave to.
    ///
    /// The requests run in a task of their own, so that a panic ends this poll and not the loop, and an
    /// idle account holds no request's memory.
    pub async fn poll(&self) {
        let slow = self.slot.state().latest.as_ref().is_some_and(|latest| latest.duration > SLOW_AFTER);
        let Some(permit) = self.alive_during(self.lanes.acquire(slow)).await else { return };
        self.slot.beat();
        let began = self.clock.moment();
        let deadline = began.monotonic + self.slot.account().poll.timeout;
        let requests = requests(Arc::clone(&self.upstream), deadline, self.lanes.clone(), permit);
        let requests = AbortOnDropHandle::new(tokio::spawn(requests)).await;
        let (earlier, exchange) = requests.unwrap_or_else(|_| (Vec::new(), Exchange::unfinished(PollError::Panic)));
        self.record(Finished { began, duration: began.monotonic.elapsed(), earlier, exchange });
        self.slot.beat();
    }

    fn record(&self, finished: Finished) {
        (self.observer)(&finished);
        for Exchange { trace_id, result, .. } in &finished.earlier {
            if let Err(error) = result {
                let (account, reason) = (&self.slot.account().alias, error.reason().as_str());
                debug!(account, reason, %error, trace_id, "request failed, and another one follows");
            }
        }
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

/// The requests of one poll, given up where it turns out slow and too many slow ones are in flight.
async fn requests<U: Upstream>(
    upstream: Arc<U>,
    deadline: Instant,
    lanes: Lanes,
    mut permit: Permit,
) -> (Vec<Exchange>, Exchange) {
    let mut progress = Progress::default();
    let answered = tokio::select! {
        exchange = attempts::ask(upstream.as_ref(), deadline, &mut progress) => Some(exchange),
        () = lanes.must_give_way(&mut permit) => None,
    };
    let exchange = answered.unwrap_or_else(|| progress.given_up(PollError::GaveWay));
    (progress.earlier, exchange)
}

/// One line when an account starts to fail, one when it recovers; all else is for debugging.
fn log(account: &str, trace_id: &str, before: &AccountState, after: &AccountState) {
    let Some(latest) = &after.latest else { return };
    let duration = latest.duration.as_secs_f64();
    let trace_id = (!trace_id.is_empty()).then_some(trace_id);
    match &latest.failure {
        Some(Failure { reason, words: error }) => {
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
