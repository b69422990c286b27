//! `/`: what an operator wants to see in five seconds. Plain HTML and CSS, no script, nothing from outside.

use std::{fmt::Write, sync::LazyLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    config::Paths,
    human,
    koodrive::Measure,
    poll::{Board, Now, Slot},
};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--bar:#3b82f6;--full:#dc2626;--good:#15803d}\
@media(prefers-color-scheme:dark){:root{--good:#4ade80;--full:#f87171}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .8rem;border-bottom:1px solid var(--line)}\
meter{width:10rem}.up{color:var(--good)}.down{color:var(--full)}.note{opacity:.75}";

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
pub(super) fn render(board: &Board, paths: &Paths, now: Now) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, board, paths, now);
    page
}

fn write_page(page: &mut String, board: &Board, paths: &Paths, now: Now) -> std::fmt::Result {
    let (version, revision) = (env!("CARGO_PKG_VERSION"), env!("BUILD_REVISION"));
    let up = board.slots().iter().filter(|slot| slot.state().up()).count();
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>KooDrive exporter</title>\
         <style>{STYLE}</style></head><body><h1>KooDrive exporter</h1>\
         <p>{up} of {} accounts up. <a href=\"{links}{}\">Metrics</a>, <a href=\"{links}/-/healthy\">health</a>, \
         <a href=\"{links}/-/ready\">readiness</a>.</p>\
         <table><thead><tr><th scope=\"col\">Account</th><th scope=\"col\">State</th><th scope=\"col\">Used</th>\
         <th scope=\"col\">Capacity</th><th scope=\"col\">Fullness</th><th scope=\"col\">Last poll</th></tr></thead><tbody>",
        board.slots().len(),
        escaped(&paths.telemetry),
        links = escaped(&paths.links),
    )?;
    for slot in board.slots().iter() {
        write_account(page, slot, now)?;
    }
    write!(page, "</tbody></table><p class=\"note\">Version {version}, revision {revision}.</p></body></html>")
}

fn write_account(page: &mut String, slot: &Slot, now: Now) -> std::fmt::Result {
    let (account, state) = (slot.account(), slot.state());
    write!(page, "<tr><th scope=\"row\">{}</th>", escaped(&account.alias))?;
    match state.latest.as_ref().map(|latest| &latest.failure) {
        None => page.write_str("<td class=\"note\">not polled yet</td>")?,
        Some(None) => page.write_str("<td class=\"up\">up</td>")?,
        Some(Some((reason, error))) => {
            write!(page, "<td class=\"down\">down: {}<br><small>{}</small></td>", reason.as_str(), escaped(error))?;
        }
    }
    let space = state.fresh_space(account.poll.max_age, now);
    let field = |read: fn(&crate::koodrive::Overview) -> &crate::koodrive::Field| {
        let measure = read(&space?.overview).as_ref().ok()?;
        Some(*measure)
    };
    let (used, capacity) = (field(|overview| &overview.total_used), field(|overview| &overview.total_capacity));
    for measure in [used, capacity] {
        write!(
            page,
            "<td>{}</td>",
            measure.map_or_else(|| "unknown".to_owned(), |measure| human::bytes(measure.value))
        )?;
    }
    write_fullness(page, used, capacity)?;
    match &state.latest {
        Some(latest) => match Timestamp::try_from(latest.began.wall) {
            Ok(began) => write!(page, "<td>{} UTC</td></tr>", began.strftime("%Y-%m-%d %H:%M:%S")),
            Err(_) => page.write_str("<td>unknown</td></tr>"),
        },
        None => page.write_str("<td>never</td></tr>"),
    }
}

fn write_fullness(page: &mut String, used: Option<Measure>, capacity: Option<Measure>) -> std::fmt::Result {
    match (used, capacity) {
        (Some(used), Some(capacity)) if capacity.value > 0.0 => {
            let percent = 100.0 * used.value / capacity.value;
            write!(
                page,
                "<td><meter min=\"0\" max=\"100\" high=\"85\" value=\"{:.1}\"></meter> {percent:.1} %</td>",
                percent.min(100.0)
            )
        }
        _ => page.write_str("<td>unknown</td>"),
    }
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
