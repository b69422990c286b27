//! `/`: what an operator wants to see in five seconds. Plain HTML and CSS, no script, nothing from outside.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use exporter_toolkit::Paths;
use jiff::Timestamp;
use koodrive::{Field, Overview, Unit};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::{
    clock::Moment,
    human,
    poll::{AccountEntry, AccountState, AccountStore},
};

/// Colours that can be told apart on either ground; nothing is told by colour alone.
const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--soft:#666;--good:#166534;--bad:#b91c1c}\
@media(prefers-color-scheme:dark){:root{--soft:#aaa;--good:#4ade80;--bad:#f87171}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;margin:0}nav a{margin-right:1rem}\
div{overflow-x:auto}table{border-collapse:collapse;width:100%;margin-top:1rem}\
caption{text-align:left;font-weight:600;padding:.4rem 0}\
th,td{text-align:left;vertical-align:top;padding:.5rem .8rem;border-bottom:1px solid var(--line)}\
meter{width:9rem;height:1rem;vertical-align:middle}small{display:block}\
.up{color:var(--good)}.down{color:var(--bad)}.down strong{display:block}footer,small,.none{color:var(--soft)}";

/// What the page may load: nothing but its own style, told by its digest (Content Security Policy Level 3).
pub(super) fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        format!(
            "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

const COLUMNS: [&str; 7] = ["Account", "State", "Usage", "Allocated", "Last poll", "Numbers are from", "Next poll"];

/// The page.
pub(super) fn render(store: &AccountStore, paths: &Paths, now: Moment) -> String {
    let mut accounts: Vec<_> = store.entries().iter().map(|entry| (Arc::clone(entry), entry.state())).collect();
    // Whoever needs care comes first.
    accounts.sort_by_key(|(_, state)| state.up());
    let up = accounts.iter().filter(|(_, state)| state.up()).count();
    let Paths { links, telemetry, .. } = paths;
    let as_of = Timestamp::try_from(now.wall).map(|now| now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { "KooDrive exporter" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "KooDrive exporter" }
                    p { (up) " of " (accounts.len()) " accounts up" }
                    nav aria-label="Pages" {
                        a href={ (links) (telemetry) } { "Metrics" }
                        a href={ (links) "/-/healthy" } { "Health" }
                        a href={ (links) "/-/ready" } { "Readiness" }
                    }
                }
                main {
                    div {
                        table {
                            caption { "Accounts" }
                            thead { tr { @for column in COLUMNS { th scope="col" { (column) } } } }
                            tbody { @for (entry, state) in &accounts { (row(entry, state, now)) } }
                        }
                    }
                }
                footer {
                    p {
                        "Version " (env!("CARGO_PKG_VERSION")) ", revision " (env!("BUILD_REVISION")) ". As of "
                        (as_of.unwrap_or_default()) "."
                    }
                }
            }
        }
    };
    page.into_string()
}

fn row(entry: &AccountEntry, state: &AccountState, now: Moment) -> Markup {
    let account = entry.account();
    let space = state.fresh_space(account.poll.max_age, now);
    let field = |read: fn(&Overview) -> &Field| Some(read(&space?.overview).as_ref().ok()?.value);
    let (used, capacity) = (field(|overview| &overview.total_used), field(|overview| &overview.total_capacity));
    let allocated =
        field(|overview| &overview.total_allocation).map(|amount| match account.api.units.total_allocation {
            Unit::Count => amount.to_string(),
            _ => human::bytes(amount),
        });
    let next = entry.due().map(|due| match due.monotonic.saturating_duration_since(now.monotonic) {
        Duration::ZERO => "now".to_owned(),
        wait => format!("in {}", human::duration(wait)),
    });
    html! {
        tr {
            th scope="row" { (account.alias) }
            @match state.latest.as_ref().map(|latest| &latest.failure) {
                None => td .none { "not polled yet" },
                Some(None) => td .up { "up" },
                Some(Some(failure)) => td .down { strong { "down: " (failure.reason.as_str()) } small { (failure.words) } },
            }
            (usage(&account.alias, used, capacity))
            (cell(allocated))
            (cell(state.latest.as_ref().map(|latest| ago(latest.began.age(now)))))
            (cell(state.space.as_ref().map(|space| ago(space.age(now)))))
            (cell(next))
        }
    }
}

fn usage(alias: &str, used: Option<f64>, capacity: Option<f64>) -> Markup {
    let told = |amount: Option<f64>| amount.map_or_else(|| "unknown".to_owned(), human::bytes);
    let percent = used.zip(capacity.filter(|capacity| *capacity > 0.0)).map(|(used, capacity)| 100.0 * used / capacity);
    html! {
        td {
            @if let Some(percent) = percent {
                @let (text, full) = (format!("{percent:.1} %"), format!("{:.1}", percent.min(100.0)));
                meter aria-label={ "Usage of " (alias) } min="0" max="100" high="85" value=(full) { (text) } " " (text)
            }
            @if used.or(capacity).is_some() {
                small { (told(used)) " of " (told(capacity)) }
            } @else {
                span .none { "unknown" }
            }
        }
    }
}

fn cell(text: Option<String>) -> Markup {
    html! {
        @if let Some(text) = text { td { (text) } } @else { td .none { "none" } }
    }
}

fn ago(age: Duration) -> String {
    format!("{} ago", human::duration(age))
}
