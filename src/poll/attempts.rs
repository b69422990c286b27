//! The requests of one poll: one, and a few more where another may succeed.

use std::time::Duration;

use koodrive::{Client, Exchange, Reason, Remedy};
use tokio::time::{Instant, sleep, timeout_at};

/// Requests in one poll, at most.
const MAX_REQUESTS: usize = 3;

/// The first wait lies between 0 and this, and each further one between 0 and twice the one before.
const FIRST_BACK_OFF: Duration = Duration::from_millis(200);

/// Less time than this is too short for a request.
const SHORTEST_REQUEST: Duration = Duration::from_millis(100);

/// Where an account's numbers come from.
pub trait Upstream: Send + Sync + 'static {
    /// One request, given up at `deadline`; with `remedy` after one that was refused.
    fn ask(&self, deadline: Instant, remedy: Option<Remedy>) -> impl Future<Output = Exchange> + Send;

    /// What may make a refused request succeed, other than what the earlier ones of this poll have tried.
    fn remedy(&self, earlier: &[Exchange], refused: &Exchange) -> impl Future<Output = Option<Remedy>> + Send;
}

impl Upstream for Client {
    fn ask(&self, deadline: Instant, remedy: Option<Remedy>) -> impl Future<Output = Exchange> + Send {
        Client::ask(self, deadline, remedy)
    }

    fn remedy(&self, earlier: &[Exchange], refused: &Exchange) -> impl Future<Output = Option<Remedy>> + Send {
        Client::remedy(self, earlier, refused)
    }
}

/// What may follow a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It succeeded, or asking again would give the same answer.
    Settled,
    /// Another request after a wait may succeed.
    AfterBackOff,
    /// Another one may succeed if it goes out with another secret or date.
    IfDifferent,
}

/// Asks until the poll is settled. Each request may take all the time that is left until `deadline`.
///
/// Returns the requests that did not settle the poll, and the one that did.
pub(super) async fn ask<U: Upstream>(upstream: &U, deadline: Instant) -> (Vec<Exchange>, Exchange) {
    let (mut earlier, mut remedy) = (Vec::new(), None);
    loop {
        let exchange = upstream.ask(deadline, remedy).await;
        let requests = earlier.len() + 1;
        let again = requests < MAX_REQUESTS
            && match next(&exchange) {
                Next::Settled => false,
                Next::IfDifferent => {
                    remedy = timeout_at(deadline, upstream.remedy(&earlier, &exchange)).await.ok().flatten();
                    remedy.is_some()
                }
                Next::AfterBackOff => {
                    let wait = back_off(requests - 1, fastrand::f64());
                    let in_time = Instant::now() + wait + SHORTEST_REQUEST < deadline;
                    if in_time {
                        sleep(wait).await;
                    }
                    in_time
                }
            };
        if !again {
            return (earlier, exchange);
        }
        earlier.push(exchange);
    }
}

/// Retries are for what failed early and may pass by itself: never after a timeout, never where the API asked for a
/// pause, and where it understood and refused only with another secret or date.
fn next(exchange: &Exchange) -> Next {
    match &exchange.result {
        Ok(_) => Next::Settled,
        Err(_) if exchange.retry_after().is_some() => Next::Settled,
        Err(error) => match (error.reason(), exchange.head().map(|head| head.status)) {
            _ if error.is_transient() => Next::AfterBackOff,
            // The code for a wrong date is not documented, and may be any at status 400.
            (Reason::Auth, _) | (_, Some(400)) => Next::IfDifferent,
            _ => Next::Settled,
        },
    }
}

/// Exponential back-off with full jitter: `random` is in [0, 1).
fn back_off(retries: usize, random: f64) -> Duration {
    (FIRST_BACK_OFF * (1 << retries.min(MAX_REQUESTS))).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use koodrive::{Answer, ConnectFailure, Head, PollError, Remedy, Stage, Units, answer, overview::OVERVIEW};

    fn after(status: u16, body: &str) -> Next {
        let result = answer::read(status, body.as_bytes(), &OVERVIEW, &Units::default());
        next(&answered(status, None, result))
    }

    fn answered(status: u16, retry_after: Option<Duration>, result: Result<Answer, PollError>) -> Exchange {
        let stage = Stage::Answered(Head { status, clock_skew: None, retry_after });
        Exchange { stage, result, ..Exchange::unfinished(PollError::Panic) }
    }

    #[test]
    fn next_retries_only_what_may_pass_by_itself() {
        for status in [502, 503, 504] {
            assert_eq!(after(status, ""), Next::AfterBackOff);
        }
        for status in [302, 404, 429, 500, 501] {
            assert_eq!(after(status, ""), Next::Settled);
        }
        for status in [400, 401, 403] {
            assert_eq!(after(status, r#"{"code":7}"#), Next::IfDifferent);
        }
        assert_eq!((after(400, ""), after(403, "<html>")), (Next::IfDifferent, Next::Settled));
        for status in [200, 400, 403] {
            assert_eq!(after(status, r#"{"code":13000201}"#), Next::AfterBackOff);
        }
        assert_eq!(after(400, r#"{"code":13000412}"#), Next::IfDifferent);
        assert_eq!(after(200, r#"{"code":13000412}"#), Next::Settled);
        assert_eq!(after(200, "garbage"), Next::Settled);
        assert_eq!(
            next(&Exchange::unfinished(PollError::Connect(ConnectFailure::Refused, String::new()))),
            Next::AfterBackOff
        );
        assert_eq!(next(&Exchange::unfinished(PollError::Tls(String::new()))), Next::Settled);
        assert_eq!(next(&Exchange::unfinished(PollError::Timeout(Duration::ZERO))), Next::Settled);
    }

    #[test]
    fn next_does_not_retry_where_the_server_asked_for_a_pause() {
        let result = Err(answer::read(503, b"", &OVERVIEW, &Units::default()).unwrap_err());
        let retry_after = Some(Duration::from_secs(1));
        assert_eq!(next(&answered(503, retry_after, result)), Next::Settled);
    }

    /// Never reaches anything, and notes until when it may try.
    #[derive(Default)]
    struct Unreachable(std::sync::Mutex<Vec<Instant>>);

    impl Upstream for Unreachable {
        async fn ask(&self, deadline: Instant, _: Option<Remedy>) -> Exchange {
            self.0.lock().unwrap().push(deadline);
            Exchange::unfinished(PollError::Connect(ConnectFailure::Refused, String::new()))
        }

        async fn remedy(&self, _: &[Exchange], _: &Exchange) -> Option<Remedy> {
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ask_gives_each_request_all_the_time_that_is_left() {
        let (upstream, deadline) = (Unreachable::default(), Instant::now() + Duration::from_secs(10));
        let (earlier, _) = ask(&upstream, deadline).await;
        assert_eq!(*upstream.0.lock().unwrap(), [deadline; 3]);
        assert_eq!(earlier.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn ask_does_not_retry_where_no_time_is_left() {
        for _ in 0..20 {
            let upstream = Unreachable::default();
            ask(&upstream, Instant::now() + SHORTEST_REQUEST).await;
            assert_eq!(upstream.0.lock().unwrap().len(), 1);
        }
    }

    #[test]
    fn back_off_doubles() {
        assert_eq!([0, 1, 2].map(|retries| back_off(retries, 0.5).as_millis()), [100, 200, 400]);
    }

    proptest! {
        #[test]
        fn back_off_is_between_nothing_and_a_doubling_bound(retries in 0usize..100, random in 0f64..1.0) {
            let bound = FIRST_BACK_OFF * (1 << retries.min(MAX_REQUESTS));
            prop_assert!(back_off(retries, random) < bound.max(Duration::from_nanos(1)));
        }
    }
}
