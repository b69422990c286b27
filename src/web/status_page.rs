//! `/`: what an operator wants to see in five seconds. Plain HTML and CSS, no script, nothing from outside.

use std::{
    fmt::{self, Write},
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    clock::Moment,
    config::Paths,
    human,
    koodrive::{Field, Overview},
    poll::{AccountState, Board, Failure, Slot},
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

/// The page.
pub(super) fn render(board: &Board, paths: &Paths, now: Moment) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, board, paths, now);
    page
}

fn write_page(page: &mut String, board: &Board, paths: &Paths, now: Moment) -> fmt::Result {
    let mut accounts: Vec<_> = board.slots().iter().map(|slot| (Arc::clone(slot), slot.state())).collect();
    // Whoever needs care comes first.
    accounts.sort_by_key(|(_, state)| state.up());
    let up = accounts.iter().filter(|(_, state)| state.up()).count();
    let (links, telemetry) = (escaped(&paths.links), escaped(&paths.telemetry));
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>KooDrive exporter</title>\
         <style>{STYLE}</style></head><body>\n<header><h1>KooDrive exporter</h1><p>{up} of {} accounts up</p>\
         <nav aria-label=\"Pages\"><a href=\"{links}{telemetry}\">Metrics</a><a href=\"{links}/-/healthy\">Health</a>\
         <a href=\"{links}/-/ready\">Readiness</a></nav></header>\n<main><div><table><caption>Accounts</caption><thead><tr>",
        accounts.len(),
    )?;
    for column in ["Account", "State", "Usage", "Allocated", "Last poll", "Numbers are from", "Next poll"] {
        write!(page, "<th scope=\"col\">{column}</th>")?;
    }
    page.write_str("</tr></thead><tbody>")?;
    for (slot, state) in &accounts {
        write_account(page, slot, state, now)?;
    }
    let (version, revision) = (env!("CARGO_PKG_VERSION"), env!("BUILD_REVISION"));
    let told = Timestamp::try_from(now.wall).map(|now| now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    write!(
        page,
        "</tbody></table></div></main>\n<footer><p>Version {version}, revision {revision}. As of {}.</p></footer></body></html>\n",
        told.unwrap_or_default()
    )
}

fn write_account(page: &mut String, slot: &Slot, state: &AccountState, now: Moment) -> fmt::Result {
    let account = slot.account();
    write!(page, "\n<tr><th scope=\"row\">{}</th>", escaped(&account.alias))?;
    match state.latest.as_ref().map(|latest| &latest.failure) {
        None => page.write_str("<td class=\"none\">not polled yet</td>")?,
        Some(None) => page.write_str("<td class=\"up\">up</td>")?,
        Some(Some(Failure { reason, words })) => {
            let (reason, error) = (reason.as_str(), escaped(words));
            write!(page, "<td class=\"down\"><strong>down: {reason}</strong><small>{error}</small></td>")?;
        }
    }
    let space = state.fresh_space(account.poll.max_age, now);
    let field = |read: fn(&Overview) -> &Field| Some(read(&space?.overview).as_ref().ok()?.value);
    let (used, capacity) = (field(|overview| &overview.total_used), field(|overview| &overview.total_capacity));
    write_usage(page, &account.alias, used, capacity)?;
    let allocated = field(|overview| &overview.total_allocation).map(|amount| match account.units.total_allocation {
        crate::account::Unit::Count => amount.to_string(),
        _ => human::bytes(amount),
    });
    write_cell(page, allocated)?;
    write_cell(page, state.latest.as_ref().map(|latest| ago(latest.began.age(now))))?;
    write_cell(page, state.space.as_ref().map(|space| ago(space.age(now))))?;
    let next = slot.due().map(|due| match due.monotonic.saturating_duration_since(now.monotonic) {
        Duration::ZERO => "now".to_owned(),
        wait => format!("in {}", human::duration(wait)),
    });
    write_cell(page, next)?;
    page.write_str("</tr>")
}

fn write_usage(page: &mut String, alias: &str, used: Option<f64>, capacity: Option<f64>) -> fmt::Result {
    let told = |amount: Option<f64>| amount.map_or_else(|| "unknown".to_owned(), human::bytes);
    page.write_str("<td>")?;
    if let (Some(used), Some(capacity)) = (used, capacity.filter(|capacity| *capacity > 0.0)) {
        let percent = 100.0 * used / capacity;
        write!(
            page,
            "<meter aria-label=\"Usage of {}\" min=\"0\" max=\"100\" high=\"85\" value=\"{:.1}\">{percent:.1} %</meter> {percent:.1} %",
            escaped(alias),
            percent.min(100.0)
        )?;
    }
    if used.or(capacity).is_some() {
        write!(page, "<small>{} of {}</small></td>", told(used), told(capacity))
    } else {
        page.write_str("<span class=\"none\">unknown</span></td>")
    }
}

fn write_cell(page: &mut String, text: Option<String>) -> fmt::Result {
    match text {
        Some(text) => write!(page, "<td>{text}</td>"),
        None => page.write_str("<td class=\"none\">none</td>"),
    }
}

fn ago(age: Duration) -> String {
    format!("{} ago", human::duration(age))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_page() {
        assert_eq!(escaped("<a href=\"'&"), "&lt;a href=&quot;&#39;&amp;");
    }
}
