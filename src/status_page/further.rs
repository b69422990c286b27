//! The table of the further collectors: who fills the space, how many users there are, and whether the service is frozen.

use koodrive::{
    FieldSpec,
    subscription::{FROZEN, SUBSCRIPTION, USER_QUOTA},
    usage::{DEPARTMENT_USED, GROUP_USED, MAX_USERS, PERSONAL_USED, USAGE, USERS},
};
use maud::{Markup, html};

use super::{Account, Collected, cell, overview::poll_state, runbook, text};
use crate::human;

pub(super) const COLUMNS: [&str; 6] =
    ["Account", "Used by kind of space", "Users", "Service", "Usage poll", "Subscription poll"];

/// Kinds of space, and the classes of their parts of the bar.
const KINDS: [(&str, &str, FieldSpec); 3] =
    [("personal", "one", PERSONAL_USED), ("department", "two", DEPARTMENT_USED), ("group", "three", GROUP_USED)];

pub(super) fn row(account: &Account, runbooks: Option<&str>) -> Markup {
    let (usage, subscription) = (account.of(&USAGE), account.of(&SUBSCRIPTION));
    let of = |collected: Option<&Collected>, field| collected?.value(field);
    let max_users = of(usage, MAX_USERS).or_else(|| of(subscription, USER_QUOTA));
    let users = match (of(usage, USERS), max_users) {
        (Some(users), Some(max)) => Some(format!("{users} of {max}")),
        (Some(users), None) => Some(users.to_string()),
        (None, Some(max)) => Some(format!("unknown of {max}")),
        (None, None) => None,
    };
    let poll = |column, collected: Option<&Collected>| match collected {
        Some(collected) => poll_state(column, collected, runbooks),
        None => cell(column, "unknown", &html! { "not configured" }),
    };
    html! {
        th scope="row" { (account.overview.account.alias) }
        (cell("Used by kind of space", "", &by_kind(usage)))
        (text("Users", users))
        (service(of(subscription, FROZEN), runbooks))
        (poll("Usage poll", usage))
        (poll("Subscription poll", subscription))
    }
}

fn service(frozen: Option<f64>, runbooks: Option<&str>) -> Markup {
    match frozen {
        Some(1.0) => {
            let words =
                html! { small { "Nobody can use it; data is kept." (runbook(runbooks, "KooDriveServiceFrozen")) } };
            cell("Service", "down", &html! { strong { "frozen" } (words) })
        }
        Some(_) => cell("Service", "up", &html! { "normal" }),
        None => text("Service", None),
    }
}

/// A bar of the kinds, side by side.
fn by_kind(usage: Option<&Collected>) -> Markup {
    let value = |field| usage.and_then(|usage| usage.value(field));
    let parts: Vec<(&str, &str, f64)> =
        KINDS.into_iter().filter_map(|(kind, class, field)| Some((kind, class, value(field)?))).collect();
    let total: f64 = parts.iter().map(|(_, _, used)| used).sum();
    let mut left = 0.0;
    let bars = parts.iter().map(|(_, class, used)| {
        let (begin, width) = (left, 100.0 * used / total);
        left += width;
        html! { rect class=(class) x=(format!("{begin:.1}")) y="0" width=(format!("{width:.1}")) height="10" {} }
    });
    let bars: Vec<Markup> = if total > 0.0 { bars.collect() } else { Vec::new() };
    html! {
        @if parts.is_empty() { span .unknown { "unknown" } }
        @if !bars.is_empty() {
            svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" { @for bar in &bars { (bar) } }
        }
        @for (kind, _, used) in &parts { small { (kind) " " (human::bytes(*used)) } }
    }
}
