//! One collector of one account, one loop: wait for the due time, poll, store the result.

use std::{pin::pin, sync::Arc, time::Duration};

use koodrive::{Exchange, PollError};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, warn};

use super::{
    accounts::AccountEntry,
    attempts::{self, Upstream},
    limiter::Limiter,
    report,
    schedule::{next_poll, next_tick, rescheduled},
    state::Finished,
};
use crate::clock::WallClock;

/// Called with each finished poll before its result becomes visible.
pub type Observer = Arc<dyn Fn(&Finished) + Send + Sync>;

/// The loop of one collector of one account.
pub struct Poller<U> {
    /// The account and what is known of it.
    pub entry: Arc<AccountEntry>,
    /// Where the account's numbers come from. A reload replaces it once it has the entry's account replaced.
    pub upstream: watch::Receiver<Arc<U>>,
    /// The bound on polls in flight, over all accounts.
    pub limiter: Limiter,
    /// Where requests are carried out: an API that keeps a thread busy holds up no page.
    pub requests: Handle,
    /// The time of day.
    pub clock: WallClock,
    /// Called with each finished poll.
    pub observer: Observer,
    /// The beginning of all schedules.
    pub epoch: Instant,
    /// Ends the loop. A poll in flight is finished, so that its requests are counted.
    pub stop: CancellationToken,
}

impl<U: Upstream> Poller<U> {
    /// Polls on schedule from `due` on, until it is stopped.
    pub async fn run(mut self, mut due: Instant) {
        while !self.stop.is_cancelled() {
            self.upstream.mark_unchanged();
            let account = self.entry.account();
            self.entry.set_due(self.clock.moment_at(due));
            tokio::select! {
                () = self.stop.cancelled() => return,
                Ok(()) = self.upstream.changed() => {
                    if self.entry.state().latest.is_some() {
                        due = rescheduled(&self.entry.account(), &self.entry.state(), self.epoch, due, Instant::now());
                    }
                    continue;
                }
                () = alive_during(&self.entry, account.poll.interval, sleep_until(due)) => {}
            }
            // After a pause of the whole process everybody's tick has passed: each waits for its next one.
            if due.elapsed() >= account.poll.interval {
                due = next_tick(&account, self.epoch, Instant::now());
                continue;
            }
            // An account that waits has no memory for a poll.
            Box::pin(self.poll()).await;
            due = next_poll(&self.entry.account(), &self.entry.state(), self.epoch, Instant::now());
        }
    }

    /// Polls once, as soon as there is a permit.
    ///
    /// The requests run in a task of their own, so that a panic ends this poll and not the loop, and an idle account
    /// holds no request's memory.
    pub async fn poll(&self) {
        let Some(Some(_permit)) = self.stop.run_until_cancelled(self.permit()).await else { return };
        // A reload may have replaced it meanwhile.
        let (account, upstream) = (self.entry.account(), Arc::clone(&self.upstream.borrow()));
        self.entry.beat();
        let began = self.clock.moment();
        let deadline = began.monotonic + account.poll.timeout;
        let requests = self.requests.spawn(async move { attempts::ask(upstream.as_ref(), deadline).await });
        let requests = AbortOnDropHandle::new(requests).await;
        let (earlier, exchange) = requests.unwrap_or_else(|_| (Vec::new(), Exchange::unfinished(PollError::Panic)));
        self.record(Finished { began, duration: began.monotonic.elapsed(), earlier, exchange });
        self.entry.beat();
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let (mut permit, mut upstream) = (pin!(self.limiter.acquire()), self.upstream.clone());
        loop {
            upstream.mark_unchanged();
            let interval = self.entry.account().poll.interval;
            tokio::select! {
                permit = alive_during(&self.entry, interval, permit.as_mut()) => return permit,
                // A reload may have made the interval shorter.
                Ok(()) = upstream.changed() => {}
            }
        }
    }

    fn record(&self, finished: Finished) {
        (self.observer)(&finished);
        if self.stop.is_cancelled() {
            return;
        }
        let account = self.entry.account();
        let alias = &account.alias;
        for exchange in &finished.earlier {
            if let Err(error) = &exchange.result {
                let (reason, trace_id) = (error.reason().as_str(), exchange.sent_trace_id());
                debug!(account = alias, reason, %error, trace_id, "request failed, retrying");
            }
        }
        let trace_id = finished.exchange.sent_trace_id().map(ToOwned::to_owned);
        let before = self.entry.state();
        let mut after = before.after(finished);
        let news = report::news(&before, &mut after);
        // Compared when the usage comes, and the overview is no older than its interval: later one of them has grown.
        let verdicts = self.entry.unit_verdicts(&after, self.clock.moment());
        if !verdicts.is_empty() {
            after.unit_verdicts = verdicts;
        }
        let after = Arc::new(after);
        self.entry.replace(Arc::clone(&after));
        report::write(news, &account, trace_id.as_deref(), &before, &after);
        for verdict in after.unit_verdicts.iter().filter(|verdict| verdict.is_doubtful()) {
            if !before.unit_verdicts.contains(verdict) {
                warn!(account = alias, %verdict, "configured unit contradicts the usage");
            }
        }
    }
}

/// Waits, with a heartbeat as often as that.
async fn alive_during<T>(entry: &AccountEntry, every: Duration, wait: impl Future<Output = T>) -> T {
    let mut wait = pin!(wait);
    loop {
        entry.beat();
        if let Ok(done) = timeout(every, wait.as_mut()).await {
            return done;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use tokio::runtime::Builder;

    use super::*;
    use crate::{
        account::{Account, PollPolicy},
        poll::AccountStore,
    };

    /// Each request keeps its thread busy until it may end.
    struct Busy(Mutex<mpsc::Receiver<()>>);

    impl Upstream for Busy {
        async fn ask(&self, _: Instant, _: Option<koodrive::Remedy>) -> Exchange {
            let _ = self.0.lock().unwrap().recv_timeout(Duration::from_mins(1));
            Exchange::unfinished(PollError::Panic)
        }

        async fn remedy(&self, _: &[Exchange], _: &Exchange) -> Option<koodrive::Remedy> {
            None
        }
    }

    /// A poller of one account, what reloads it, and what lets its requests end.
    fn poller(account: Arc<Account>, limiter: Limiter, requests: Handle) -> (Poller<Busy>, Reload, mpsc::Sender<()>) {
        let (clock, (end, busy)) = (WallClock::system(), mpsc::channel());
        let entry = AccountStore::default().entry(account, None, clock.moment());
        let (reload, upstream) = watch::channel(Arc::new(Busy(Mutex::new(busy))));
        let (observer, stop): (Observer, _) = (Arc::new(|_| {}), CancellationToken::new());
        (Poller { entry, upstream, limiter, requests, clock, observer, epoch: Instant::now(), stop }, reload, end)
    }

    type Reload = watch::Sender<Arc<Busy>>;

    #[tokio::test]
    async fn request_that_keeps_its_thread_busy_holds_up_nothing_but_requests() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let requests = runtime.handle().clone();
        let account = Arc::new(Account::example("production"));
        let (poller, _reload, end) = poller(account, Limiter::new(1), requests);
        let entry = Arc::clone(&poller.entry);
        let polling = tokio::spawn(async move { poller.poll().await });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let before = entry.state();
        end.send(()).unwrap();
        polling.await.unwrap();
        runtime.shutdown_background();
        assert!(before.latest.is_none() && entry.state().latest.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn poll_that_waits_for_its_permit_shows_that_it_is_alive_by_a_shorter_interval_too() {
        let account = |interval| {
            let poll = PollPolicy { interval, timeout: interval, max_age: interval * 3 };
            Arc::new(Account { poll, ..Account::example("production") })
        };
        let limiter = Limiter::new(1);
        let _busy = limiter.acquire().await;
        let (poller, reload, _end) = poller(account(Duration::from_hours(1)), limiter, Handle::current());
        let (entry, upstream) = (Arc::clone(&poller.entry), Arc::clone(&poller.upstream.borrow()));
        tokio::spawn(async move { poller.poll().await });
        tokio::task::yield_now().await;
        let often = account(Duration::from_secs(15));
        entry.reconfigure(often);
        reload.send(upstream).ok().unwrap();
        tokio::time::sleep(Duration::from_mins(5)).await;
        assert!(entry.alive());
    }
}
