//! What the log says of a poll: one line when it matters, and all else for debugging.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::state::AccountState;
use crate::account::Account;

/// A failure that goes on is said again after this time.
const REMIND_AFTER: Duration = Duration::from_hours(1);

/// What the log says of the latest poll of `after`, if it is new; and when it did is noted there.
pub(super) fn news(before: &AccountState, after: &mut AccountState) -> Option<&'static str> {
    let now = Instant::now();
    let news = news_at(before, after, now);
    after.last_report = if news.is_some() { Some(now) } else { before.last_report };
    news
}

fn news_at(before: &AccountState, after: &AccountState, now: Instant) -> Option<&'static str> {
    let Some(failure) = after.failure() else {
        return (before.failures_in_a_row > 0).then_some("account polls succeeding again");
    };
    match before.failure() {
        None => Some("account polls failing"),
        Some(earlier) if !earlier.is_like(failure) => Some("account polls failing for another reason"),
        Some(_) if before.last_report.is_none_or(|report| now.duration_since(report) >= REMIND_AFTER) => {
            Some("account polls still failing")
        }
        Some(_) => None,
    }
}

/// Writes it.
pub(super) fn write(
    news: Option<&str>,
    account: &Account,
    trace_id: Option<&str>,
    before: &AccountState,
    after: &AccountState,
) {
    let collector = account.collector.name;
    let account = account.alias.as_str();
    let duration = after.latest.as_ref().map_or(0.0, |latest| latest.duration.as_secs_f64());
    match (news, after.failure()) {
        (Some(news), Some(error)) => {
            let (reason, failures) = (error.reason().as_str(), after.failures_in_a_row);
            warn!(account, collector, reason, %error, trace_id, duration, failures, "{news}");
        }
        (None, Some(error)) => {
            let reason = error.reason().as_str();
            debug!(account, collector, reason, %error, trace_id, duration, "poll failed again");
        }
        (Some(news), None) => {
            let failures = before.failures_in_a_row;
            info!(account, collector, failures, trace_id, duration, "{news}");
        }
        (None, None) => debug!(account, collector, trace_id, duration, "poll succeeded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::WallClock, poll::Attempt};
    use koodrive::{PollError, Reason, Refusal};
    use std::sync::Arc;

    fn after(reason: Option<Reason>, before: &AccountState) -> AccountState {
        let refused = |reason| PollError::Refused { reason, refusal: Refusal::default() };
        with(reason.map(refused), before)
    }

    fn with(failure: Option<PollError>, before: &AccountState) -> AccountState {
        let failure = failure.map(Arc::new);
        let failures_in_a_row = if failure.is_some() { before.failures_in_a_row + 1 } else { 0 };
        let latest = Some(Attempt { began: WallClock::system().moment(), duration: Duration::ZERO, failure });
        AccountState { latest, failures_in_a_row, last_report: before.last_report, ..AccountState::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn failure_is_reported_at_first_for_another_reason_and_each_hour() {
        let mut state = AccountState::default();
        let mut poll = |reason| {
            let mut next = after(reason, &state);
            let news = news(&state, &mut next);
            state = next;
            news
        };
        assert_eq!(poll(None), None);
        assert_eq!(poll(Some(Reason::Timeout)), Some("account polls failing"));
        for _ in 0..59 {
            tokio::time::advance(Duration::from_mins(1)).await;
            assert_eq!(poll(Some(Reason::Timeout)), None);
        }
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(poll(Some(Reason::Timeout)), Some("account polls still failing"));
        assert_eq!(poll(Some(Reason::Auth)), Some("account polls failing for another reason"));
        assert_eq!(poll(Some(Reason::Auth)), None);
        assert_eq!(poll(None), Some("account polls succeeding again"));
        assert_eq!(poll(None), None);
    }

    #[tokio::test]
    async fn another_answer_of_the_api_is_another_failure_and_another_request_id_is_none() {
        let mut state = AccountState::default();
        let mut poll = |status, code: Option<&str>, request_id: &str| {
            let (code, request_id) = (code.map(ToOwned::to_owned), Some(request_id.to_owned()));
            let refusal = Refusal { status, code, request_id, message: None };
            let mut next = with(Some(PollError::Refused { reason: Reason::ApiError, refusal }), &state);
            let news = news(&state, &mut next);
            state = next;
            news
        };
        assert_eq!(poll(200, Some("13000410"), "a"), Some("account polls failing"));
        assert_eq!(poll(200, Some("13000410"), "b"), None);
        assert_eq!(poll(200, Some("13000412"), "b"), Some("account polls failing for another reason"));
        assert_eq!(poll(500, Some("13000412"), "b"), Some("account polls failing for another reason"));
    }
}
