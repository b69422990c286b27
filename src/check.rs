//! What `check` tells: the configuration in force, and with `--online` what one poll of each account came to.

use std::fmt::Write;

use koodrive::{Measure, Overview, Reason, Unit};

use crate::{
    config::Setting,
    human,
    poll::{AccountEntry, AccountStore, Failure},
};

/// Used beyond this many times the capacity is hardly true.
const IMPLAUSIBLE: f64 = 2.0;

/// The settings as a table.
#[must_use]
pub fn settings(settings: &[Setting]) -> String {
    let rows = settings.iter().map(|setting| [setting.key.clone(), setting.value.clone(), setting.origin.clone()]);
    table([["KEY", "VALUE", "FROM"].map(ToOwned::to_owned)].into_iter().chain(rows), &[])
}

/// The accounts as a table, and below it what is to be said of each. `colours` are for a terminal.
#[must_use]
pub fn online(store: &AccountStore, colours: bool) -> String {
    let header = ["ACCOUNT", "RESULT", "TIME", "CLOCK SKEW", "USED", "CAPACITY", "ALLOCATED"].map(ToOwned::to_owned);
    let entries = store.entries();
    let rows = entries.iter().map(|entry| row(entry));
    let results: Vec<_> = entries.iter().map(|entry| entry.state().up()).collect();
    let mut text = table([header].into_iter().chain(rows), if colours { &results } else { &[] });
    for entry in entries.iter() {
        for remark in remarks(entry) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{}: {remark}\n", entry.account().alias);
        }
    }
    text
}

fn row(entry: &AccountEntry) -> [String; 7] {
    let state = entry.state();
    let result = match state.latest.as_ref().map(|latest| &latest.failure) {
        None => "not polled",
        Some(None) => "good",
        Some(Some(failure)) => failure.reason.as_str(),
    };
    let time = state.latest.as_ref().map(|latest| format!("{:.3} s", latest.duration.as_secs_f64()));
    let skew = state.clock_skew.map(|skew| format!("{skew:+.1} s"));
    let overview = state.space.as_ref().map(|space| &space.overview);
    let number = |read: fn(&Overview) -> &koodrive::Field, unit: Unit| {
        let measure = read(overview?).as_ref().ok()?;
        Some(amount(measure, unit))
    };
    let units = entry.account().api.units;
    let unknown = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        entry.account().alias.clone(),
        result.to_owned(),
        unknown(time),
        unknown(skew),
        unknown(number(|overview| &overview.total_used, units.total_used)),
        unknown(number(|overview| &overview.total_capacity, units.total_capacity)),
        unknown(number(|overview| &overview.total_allocation, units.total_allocation)),
    ]
}

/// The number for people, and the API's own.
fn amount(measure: &Measure, unit: Unit) -> String {
    match unit {
        Unit::Count => format!("{}", measure.reported),
        unit => format!("{} ({} {})", human::bytes(measure.value), measure.reported, unit.as_str()),
    }
}

fn remarks(entry: &AccountEntry) -> Vec<String> {
    let state = entry.state();
    let mut remarks = Vec::new();
    if let Some(Failure { reason, words }) = state.failure() {
        let remedy = remedy(*reason);
        let end = if remedy.ends_with('?') { "" } else { "." };
        remarks.push(format!("{words}\n    Look at {remedy}{end}"));
    }
    if let Some(skew) = state.clock_skew.filter(|skew| skew.abs() > 60.0) {
        remarks.push(format!(
            "the API's clock and this host's are {:.0} seconds apart. Polls allow for it; look at this host's time \
             synchronisation all the same.",
            skew.abs()
        ));
    }
    let overview = state.space.as_ref().map(|space| &space.overview);
    if let Some((Ok(used), Ok(capacity))) = overview.map(|overview| (&overview.total_used, &overview.total_capacity))
        && used.value > IMPLAUSIBLE * capacity.value
    {
        remarks.push(
            "far more is used than there is. The units may be wrong: compare the numbers in brackets with KooDrive's \
             console, and set `units`."
                .to_owned(),
        );
    }
    remarks
}

/// What to look at where polls fail for this reason.
#[must_use]
pub fn remedy(reason: Reason) -> &'static str {
    match reason {
        Reason::Connect => "the name (DNS), the route, the proxy and the firewall between here and the endpoint",
        Reason::Tls => "the certificate's name, issuer and dates, and at http.ca_file where it is a private one",
        Reason::Timeout => "the network, and at poll.timeout",
        Reason::Credentials => "the secret's file: is it there, readable for this user, not empty?",
        Reason::Auth => {
            "the token or secret (expired, revoked, another account's?), at app_id and user_id, at the application's \
             permission, and at the clock skew"
        }
        Reason::RateLimited => "poll.interval, and at who else calls the API with this account",
        Reason::HttpStatus => {
            "the endpoint, and at a proxy or firewall on the way, which may have answered in its place"
        }
        Reason::ApiError => "the code, in the vendor's list of error codes",
        Reason::Decode => "whether it is KooDrive that answers: is the endpoint right, is there a captive proxy?",
        Reason::InvalidData => "the field that is named; the other numbers are good",
        Reason::Internal => "the log; this is a bug of the exporter, please report it",
    }
}

/// Columns side by side; the rows below the first are coloured by `good` in their second column.
fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>, good: &[bool]) -> String {
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let colour = index.checked_sub(1).and_then(|index| good.get(index));
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let padding = " ".repeat(width - cell.chars().count());
            match (column, colour) {
                (1, Some(true)) => format!("\x1b[32m{cell}\x1b[0m{padding}"),
                (1, Some(false)) => format!("\x1b[31m{cell}\x1b[0m{padding}"),
                _ => format!("{cell}{padding}"),
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
