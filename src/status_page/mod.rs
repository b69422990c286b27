//! `/`: what an operator wants to see in five seconds. Plain HTML and CSS, no script, nothing from outside.

mod banners;
mod further;
mod overview;

use std::{
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use exporter_toolkit::{Paths, WebConfigState};
use jiff::{SignedDuration, Timestamp};
use koodrive::{
    FieldSpec, Resource, UnitVerdict,
    overview::{TOTAL_CAPACITY, TOTAL_USED},
    subscription::{FROZEN, SUBSCRIPTION},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::{
    account,
    clock::{Moment, unix_seconds},
    human,
    metrics::OwnMetrics,
    poll::{AccountEntry, AccountState, AccountStore},
};

/// Colours that differ on either ground; nothing is shown by colour alone. On a narrow screen each row is a
/// list, with the names of its columns.
const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--soft:#666;--good:#166534;--warn:#a16207;--bad:#b91c1c;\
--one:#2563eb;--two:#0d9488;--three:#9333ea}\
@media(prefers-color-scheme:dark){:root{--soft:#aaa;--good:#4ade80;--warn:#facc15;--bad:#f87171;\
--one:#60a5fa;--two:#2dd4bf;--three:#c084fc}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;margin:0}p{overflow-wrap:anywhere}nav a{margin-right:1rem}\
table{border-collapse:collapse;width:100%;margin-top:1rem}\
caption{text-align:left;font-weight:600;padding:.4rem 0}\
th,td{text-align:left;vertical-align:top;padding:.5rem .8rem;border-bottom:1px solid var(--line);overflow-wrap:break-word;max-width:30rem}\
td:has(meter){min-width:15rem}meter+*{white-space:nowrap}meter,svg{width:9rem;height:1rem;vertical-align:middle}small{display:block}\
.up{color:var(--good)}.warn{color:var(--warn)}.down{color:var(--bad)}.down strong,.warn strong{display:block}\
.one{fill:var(--one)}.two{fill:var(--two)}.three{fill:var(--three)}\
footer,small,.unknown{color:var(--soft)}[role=alert]{border-left:.3rem solid var(--bad);padding-left:.8rem}\
@media(max-width:48rem){thead{display:none}tr,td,th[scope=row]{display:block;border:0;padding:.1rem 0;overflow-wrap:anywhere}\
tr{border-bottom:1px solid var(--line);padding:.6rem 0}td::before{content:attr(data-label) ': ';color:var(--soft)}}";

/// How often a browser loads the page again, where somebody chose that.
const REFRESH_SECONDS: u8 = 10;

/// What the page may load: nothing but its own style, named by its digest (Content Security Policy Level 3).
pub(super) fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        format!(
            "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

/// What the page shows, beside the accounts.
pub(super) struct Shown<'a> {
    pub(super) own: &'a OwnMetrics,
    pub(super) paths: &'a Paths,
    pub(super) web_config: Option<WebConfigState>,
    /// Where the operator's runbooks are.
    pub(super) runbooks: Option<&'a str>,
    pub(super) now: Moment,
}

/// Writes the page, a row at a time: it is megabytes with thousands of accounts.
pub(super) fn write(page: &mut dyn io::Write, store: &AccountStore, shown: &Shown) -> io::Result<()> {
    let Shown { own, paths, web_config, runbooks, now } = *shown;
    let mut accounts = Account::all(store, now);
    // Those that need care come first.
    accounts.sort_by(|a, b| b.care().total_cmp(&a.care()));
    let up = accounts.iter().filter(|account| account.overview.state.up()).count();
    let doubtful = accounts.iter().filter(|account| account.doubtful().next().is_some()).count();
    let up_for = Duration::try_from_secs_f64(unix_seconds(now.wall) - own.created()).unwrap_or_default();
    let Paths { links, telemetry, .. } = paths;
    let begin = html! {
        (DOCTYPE)
        (PreEscaped("<html lang=\"en\">"))
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width,initial-scale=1";
            title { "KooDrive exporter" }
            style { (PreEscaped(STYLE)) }
        }
        (PreEscaped("<body>"))
        header {
            h1 { "KooDrive exporter" }
            p {
                (up) " of " (accounts.len()) " accounts up"
                @if doubtful > 0 { ", " strong .down { (doubtful) " with numbers that may be wrong" } }
            }
            nav aria-label="Pages" {
                a href={ (links) (telemetry) } { "Metrics" }
                a href={ (links) "/-/healthy" } { "Health" }
                a href={ (links) "/-/ready" } { "Readiness" }
                a href={ (links) "/?refresh=" (REFRESH_SECONDS) } { "Refresh every " (REFRESH_SECONDS) " seconds" }
            }
        }
        (PreEscaped("<main>"))
        (banners::banners(own, web_config, &accounts, runbooks, now))
    };
    page.write_all(begin.0.as_bytes())?;
    let rows = accounts.iter().map(|account| overview::row(account, runbooks, now));
    write_table(page, "Accounts", &overview::COLUMNS, rows)?;
    let further: Vec<_> = accounts.iter().filter(|account| !account.further.is_empty()).collect();
    if !further.is_empty() {
        let rows = further.into_iter().map(|account| further::row(account, runbooks));
        write_table(page, "Usage and subscription", &further::COLUMNS, rows)?;
    }
    let end = html! {
        (PreEscaped("</main>"))
        footer {
            p {
                "Version " (env!("CARGO_PKG_VERSION")) ", revision " (env!("BUILD_REVISION")) ". Up for "
                (human::duration(up_for))
                ", since " (date(own.created())) ". Configuration of " (date(own.config_time())) ". As of "
                (date(unix_seconds(now.wall))) "."
            }
        }
        (PreEscaped("</body></html>"))
    };
    page.write_all(end.0.as_bytes())
}

fn date(unix_seconds: f64) -> String {
    let time = SignedDuration::try_from_secs_f64(unix_seconds).and_then(Timestamp::from_duration);
    time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default()
}

/// A link to the runbook of an alert, where the operator has said where they are.
fn runbook(runbooks: Option<&str>, alert: &str) -> Markup {
    html! {
        @if let Some(base) = runbooks { " " a href={ (base) "/" (alert) ".md" } { "Runbook" } }
    }
}

fn write_table(
    page: &mut dyn io::Write,
    caption: &str,
    columns: &[&str],
    rows: impl Iterator<Item = Markup>,
) -> io::Result<()> {
    let begin = html! {
        (PreEscaped("<table>"))
        caption { (caption) }
        thead { tr { @for column in columns { th scope="col" { (column) } } } }
        (PreEscaped("<tbody>"))
    };
    page.write_all(begin.0.as_bytes())?;
    for row in rows {
        page.write_all(html! { tr { (row) } }.0.as_bytes())?;
    }
    page.write_all(b"</tbody></table>")
}

/// A cell under its column's name.
fn cell(column: &str, class: &str, content: &Markup) -> Markup {
    html! { td data-label=(column) class=[(!class.is_empty()).then_some(class)] { (content) } }
}

/// A cell with a text that may not be known.
fn text(column: &str, text: Option<String>) -> Markup {
    match text {
        Some(text) => cell(column, "", &html! { (text) }),
        None => cell(column, "unknown", &html! { "unknown" }),
    }
}

/// An account's collectors, as they are at one moment.
struct Account {
    overview: Collected,
    further: Vec<Collected>,
}

/// What one collector knows.
struct Collected {
    entry: Arc<AccountEntry>,
    account: Arc<account::Account>,
    state: Arc<AccountState>,
    is_fresh: bool,
}

impl Account {
    fn all(store: &AccountStore, now: Moment) -> Vec<Self> {
        let entries = store.entries();
        let mut accounts: Vec<Self> = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            let (account, state) = (entry.account(), entry.state());
            let is_fresh = state.fresh_numbers(account.poll.max_age, now).is_some();
            let collected = Collected { account, state, is_fresh, entry: Arc::clone(entry) };
            match accounts.last_mut() {
                Some(account) if !collected.account.is_overview() => account.further.push(collected),
                _ => accounts.push(Self { overview: collected, further: Vec::new() }),
            }
        }
        accounts
    }

    /// One of the further collectors, where it is configured.
    fn of(&self, resource: &Resource) -> Option<&Collected> {
        self.further.iter().find(|collected| collected.account.collector == resource)
    }

    /// What contradicts its configured units.
    fn doubtful(&self) -> impl Iterator<Item = &UnitVerdict> {
        let verdicts = self.further.iter().flat_map(|collected| &collected.state.unit_verdicts);
        verdicts.filter(|verdict| verdict.is_doubtful())
    }

    /// How much care the account needs: first those that fail or are frozen, then the fullest.
    fn care(&self) -> f64 {
        let is_frozen = self.of(&SUBSCRIPTION).and_then(|service| service.value(FROZEN)) == Some(1.0);
        let used = self.overview.ratio(TOTAL_USED, TOTAL_CAPACITY).unwrap_or_default();
        let fails = self.overview.state.failure().is_some();
        let hints = self.further.iter().any(|collected| collected.state.failure().is_some());
        let doubts = self.doubtful().next().is_some();
        let weight = |wrong: bool, weight: f64| if wrong { weight } else { 0.0 };
        weight(fails, 8000.0) + weight(is_frozen, 4000.0) + weight(hints || doubts, 0.5) + used.min(1000.0)
    }
}

impl Collected {
    /// A number, while it is fresh.
    fn value(&self, field: FieldSpec) -> Option<f64> {
        let numbers = self.state.numbers.as_ref().filter(|_| self.is_fresh)?;
        Some(numbers.answer.measure(field)?.value)
    }

    /// One number in another, where that one is above zero.
    fn ratio(&self, part: FieldSpec, whole: FieldSpec) -> Option<f64> {
        Some(self.value(part)? / self.value(whole).filter(|whole| *whole > 0.0)?)
    }
}
