//! The table of the accounts: how each is doing, and how full it is.

use std::time::Duration;

use koodrive::{
    Reason,
    overview::{TOTAL_ALLOCATION, TOTAL_CAPACITY, TOTAL_USED},
};
use maud::{Markup, html};

use super::{Account, Collected, cell, runbook, text};
use crate::{check, clock::Moment, human};

pub(super) const COLUMNS: [&str; 7] =
    ["Account", "State", "Usage", "Allocated", "Last poll", "Numbers are from", "Next poll"];

/// Usage from this share on is more than almost full: uploads fail.
const FULL: f64 = 1.0;
const ALMOST_FULL: f64 = 0.95;
const FILLING: f64 = 0.85;

pub(super) fn row(account: &Account, runbooks: Option<&str>, now: Moment) -> Markup {
    let Collected { entry, account: configured, state, .. } = &account.overview;
    let allocated = account.overview.value(TOTAL_ALLOCATION).map(|amount| configured.allocation(amount));
    let next = entry.due().map(|due| match due.monotonic.saturating_duration_since(now.monotonic) {
        Duration::ZERO => "now".to_owned(),
        wait => format!("in {}", human::duration(wait)),
    });
    let never = || state.latest.as_ref().map(|_| "none since the start".to_owned());
    let numbers_from = state.numbers.as_ref().map(|numbers| ago(numbers.age(now))).or_else(never);
    let last_poll = state.latest.as_ref().map(|latest| ago(latest.began.age(now)));
    html! {
        th scope="row" { (configured.alias) }
        (poll_state("State", &account.overview, runbooks))
        (cell("Usage", "", &usage(account, runbooks)))
        (text("Allocated", allocated))
        (text("Last poll", last_poll))
        (text("Numbers are from", numbers_from))
        (text("Next poll", next))
    }
}

/// Whether the latest poll succeeded; if not, why, and what to look at.
pub(super) fn poll_state(column: &str, collected: &Collected, runbooks: Option<&str>) -> Markup {
    match collected.state.latest.as_ref().map(|latest| &latest.failure) {
        None => cell(column, "unknown", &html! { "not polled yet" }),
        Some(None) => cell(column, "up", &html! { "up" }),
        Some(Some(failure)) => {
            let remedy = check::remedy(&collected.account, failure, collected.state.clock_skew);
            let alert = match failure.reason() {
                _ if !collected.account.is_overview() => "KooDriveCollectorFailing",
                Reason::Auth | Reason::Credentials => "KooDriveAuthFailing",
                _ => "KooDrivePollFailing",
            };
            let words = failure.to_string();
            let content = html! {
                strong { "down: " (failure.reason().as_str()) }
                small { (words) }
                small {
                    @if remedy != words { "Look at " (remedy) (if remedy.ends_with('?') { "" } else { "." }) }
                    (runbook(runbooks, alert))
                }
            };
            cell(column, "down", &content)
        }
    }
}

fn usage(account: &Account, runbooks: Option<&str>) -> Markup {
    let (used, capacity) = (account.overview.value(TOTAL_USED), account.overview.value(TOTAL_CAPACITY));
    let shown = |amount: Option<f64>| amount.map_or_else(|| "unknown".to_owned(), human::bytes);
    let free = used.zip(capacity).map(|(used, capacity)| capacity - used);
    let alias = &account.overview.account.alias;
    let share = account.overview.ratio(TOTAL_USED, TOTAL_CAPACITY);
    let full_alert = share.and_then(|share| match share {
        share if share > FULL => Some(("more than full", "KooDriveSpaceFull")),
        FULL => Some(("full", "KooDriveSpaceFull")),
        ALMOST_FULL.. => Some(("almost full", "KooDriveSpaceAlmostFull")),
        _ => None,
    });
    html! {
        @if let Some(share) = share {
            @let (percent, full) = (format!("{:.1} %", 100.0 * share), format!("{:.1}", 100.0 * share.min(1.0)));
            meter aria-label={ "Usage of " (alias) } min="0" max="100" low="85" high="95" optimum="0" value=(full) {
                (percent)
            }
            " "
            @match full_alert {
                Some((words, _)) => { strong .down { (percent) " " (words) } },
                None if share >= FILLING => { span .warn { (percent) } },
                None => { span { (percent) } },
            }
        }
        @if used.or(capacity).is_some() {
            small {
                (shown(used)) " of " (shown(capacity))
                @match free {
                    Some(free) if free >= 0.0 => { ", " (human::bytes(free)) " free" },
                    Some(over) => { ", " (human::bytes(-over)) " too much" },
                    None => {},
                }
                @if let Some((_, alert)) = full_alert { (runbook(runbooks, alert)) }
            }
        } @else {
            span .unknown {
                "unknown" @if account.overview.state.numbers.is_some() { ": the numbers are too old" }
            }
        }
        @for verdict in account.doubtful() {
            small .warn { (verdict.to_string()) "." (runbook(runbooks, "KooDriveUnitsDoubtful")) }
        }
    }
}

fn ago(age: Duration) -> String {
    format!("{} ago", human::duration(age))
}
