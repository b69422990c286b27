//! The requests of one poll: one, and a few more where another may mend what failed.

use std::time::Duration;

use tokio::time::Instant;

use super::poller::Upstream;
use crate::koodrive::{Exchange, PollError, Reason, Stage};

/// Requests in one poll, at most.
const MAX_REQUESTS: usize = 3;

/// The first wait lies between 0 and this, and each further one between 0 and twice the one before.
const FIRST_BACK_OFF: Duration = Duration::from_millis(200);

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

/// Less time than this is too short for a request.
const SHORTEST_REQUEST: Duration = Duration::from_millis(100);

/// How far a poll has come. It outlasts the poll's being given up.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The exchanges so far, none of which settled the poll.
    pub(super) earlier: Vec<Exchange>,
    in_flight: bool,
}

impl Progress {
    /// How the poll ends that is given up now.
    pub(super) fn given_up(&self, error: PollError) -> Exchange {
        let stage = if self.in_flight { Stage::Sent } else { Stage::Unsent };
        Exchange { stage, ..Exchange::unfinished(error) }
    }
}

/// Asks until the poll is settled or `deadline` is near.
///
/// The first request may take half of the time, so that there is time for another.
pub(super) async fn ask<U: Upstream>(upstream: &U, deadline: Instant, progress: &mut Progress) -> Exchange {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = if progress.earlier.is_empty() { left / 2 } else { left };
        progress.in_flight = true;
        let exchange = upstream.overview(Instant::now() + patience).await;
        progress.in_flight = false;
        let requests = progress.earlier.len() + 1;
        let again = requests < MAX_REQUESTS
            && match next(&exchange) {
                Next::Settled => false,
                Next::IfDifferent => {
                    let differs = upstream.would_differ(&exchange);
                    tokio::time::timeout_at(deadline, differs).await.unwrap_or(false)
                }
                Next::AfterBackOff => {
                    let wait = back_off(requests - 1, fastrand::f64());
                    let in_time = Instant::now() + wait + SHORTEST_REQUEST < deadline;
                    if in_time {
                        tokio::time::sleep(wait).await;
                    }
                    in_time
                }
            };
        if !again {
            return exchange;
        }
        progress.earlier.push(exchange);
    }
}

/// Retries are for what passes by itself: never for an API that understood and refused, unless the
/// secret or the known time has changed meanwhile, and never where it asked to be left alone.
fn next(exchange: &Exchange) -> Next {
    match &exchange.result {
        Ok(_) => Next::Settled,
        Err(_) if exchange.retry_after().is_some() => Next::Settled,
        Err(error) => match (error.reason(), exchange.head().map(|head| head.status)) {
            (Reason::Connect | Reason::Timeout, _) | (Reason::HttpStatus, Some(502..=504)) => Next::AfterBackOff,
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
    use crate::koodrive::{Head, Overview, answer};

    fn after(status: u16, body: &str) -> Next {
        let result = answer::read(status, body.as_bytes(), crate::account::Units::default());
        next(&answered(status, None, result))
    }

    fn answered(status: u16, retry_after: Option<Duration>, result: Result<Overview, PollError>) -> Exchange {
        let stage = Stage::Answered(Head { status, clock_skew: None, retry_after });
        Exchange { stage, result, ..Exchange::unfinished(PollError::Panic) }
    }

    #[test]
    fn only_what_may_pass_by_itself_is_asked_again() {
        for status in [502, 503, 504] {
            assert_eq!(after(status, ""), Next::AfterBackOff);
        }
        for status in [302, 404, 429, 500, 501] {
            assert_eq!(after(status, ""), Next::Settled);
        }
        for status in [400, 401, 403] {
            assert_eq!(after(status, ""), Next::IfDifferent);
        }
        assert_eq!(after(400, r#"{"code":13000412}"#), Next::IfDifferent);
        assert_eq!(after(200, r#"{"code":13000412}"#), Next::Settled);
        assert_eq!(after(200, "garbage"), Next::Settled);
        assert_eq!(next(&Exchange::unfinished(PollError::Connect(String::new()))), Next::AfterBackOff);
        assert_eq!(next(&Exchange::unfinished(PollError::Tls(String::new()))), Next::Settled);
    }

    #[test]
    fn a_server_that_asks_for_patience_gets_it() {
        let result = Err(answer::read(503, b"", crate::account::Units::default()).unwrap_err());
        let retry_after = Some(Duration::from_secs(1));
        assert_eq!(next(&answered(503, retry_after, result)), Next::Settled);
    }

    /// Never reaches anything, and notes until when it may try.
    #[derive(Default)]
    struct Unreachable(std::sync::Mutex<Vec<Instant>>);

    impl Upstream for Unreachable {
        async fn overview(&self, deadline: Instant) -> Exchange {
            self.0.lock().unwrap().push(deadline);
            Exchange::unfinished(PollError::Connect(String::new()))
        }

        async fn would_differ(&self, _: &Exchange) -> bool {
            false
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_may_take_half_of_the_time_and_the_others_all_that_is_left() {
        let (upstream, mut progress) = (Unreachable::default(), Progress::default());
        let (began, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(10));
        ask(&upstream, deadline, &mut progress).await;
        assert_eq!(*upstream.0.lock().unwrap(), [began + Duration::from_secs(5), deadline, deadline]);
        assert_eq!(progress.earlier.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_again_where_no_time_is_left_for_it() {
        for _ in 0..20 {
            let upstream = Unreachable::default();
            ask(&upstream, Instant::now() + SHORTEST_REQUEST, &mut Progress::default()).await;
            assert_eq!(upstream.0.lock().unwrap().len(), 1);
        }
    }

    #[test]
    fn a_poll_that_is_given_up_was_sent_if_a_request_was_in_flight() {
        let stage = |in_flight| Progress { in_flight, ..Progress::default() }.given_up(PollError::GaveWay).stage;
        assert_eq!((stage(true), stage(false)), (Stage::Sent, Stage::Unsent));
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
