//! What is wrong beside single polls: above the tables, each with its runbook.

use std::time::Duration;

use exporter_toolkit::WebConfigState;
use maud::{Markup, html};

use super::{Account, date, runbook};
use crate::{
    check::{self, HARMLESS_SKEW},
    clock::Moment,
    human,
    metrics::OwnMetrics,
};

const CONFIG_RELOAD_FAILED: &str = "KooDriveConfigReloadFailed";

/// What is wrong with the exporter itself, its listener and its clock.
pub(super) fn banners(
    own: &OwnMetrics,
    web_config: Option<WebConfigState>,
    accounts: &[Account],
    runbooks: Option<&str>,
    now: Moment,
) -> Markup {
    let reload = (!own.config_is_good()).then(|| {
        let since = date(own.config_time());
        let text = format!(
            "The latest reload of the configuration failed; the log and check say why. The exporter goes on with that of \
             {since}, and a restart would fail."
        );
        (text, CONFIG_RELOAD_FAILED)
    });
    let web_reload = web_config.filter(|read| !read.successful).map(|_| {
        let text =
            "The latest reload of the web configuration file, or of a file that it names, failed; the log and check \
             say why. The exporter goes on with the version before, and a restart would fail.";
        (text.to_owned(), CONFIG_RELOAD_FAILED)
    });
    let certificate = web_config
        .and_then(|read| check::certificate_warning(read.certificate_expiry?, now.wall))
        .map(|warning| (format!("The {warning}."), "KooDriveCertificateExpiry"));
    let units = doubtful_units(accounts).map(|text| (text, "KooDriveUnitsDoubtful"));
    let skew = clock_skew(accounts).map(|text| (text, "KooDriveClockSkew"));
    let dropped = own.dropped_log_lines();
    html! {
        @for (text, name) in [reload, web_reload, certificate, units, skew].into_iter().flatten() {
            p role="alert" { (text) (runbook(runbooks, name)) }
        }
        @if dropped > 0 {
            p role="alert" { (dropped) " log lines were dropped, as standard error was not read in time or could not be written." }
        }
    }
}

/// What the first account's numbers say against its configured units, if such a unit makes numbers wrong.
fn doubtful_units(accounts: &[Account]) -> Option<String> {
    let mut doubtful = accounts.iter().filter_map(|account| Some((account, account.doubtful().next()?)));
    let (account, verdict) = doubtful.next()?;
    let alias = &account.overview.account.alias;
    let others = match doubtful.count() {
        0 => String::new(),
        1 => " and of 1 other account".to_owned(),
        others => format!(" and of {others} other accounts"),
    };
    Some(format!("The numbers of {alias}{others}, and the alerts on them, may be wrong. For {alias}: {verdict}."))
}

/// The largest difference between this host's clock and that of an account's API, where it fires `KooDriveClockSkew`.
fn clock_skew(accounts: &[Account]) -> Option<String> {
    let skews = accounts.iter().filter_map(|account| Some((account.overview.state.clock_skew?, account)));
    let largest = skews.max_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
    let (skew, account) = largest.filter(|(skew, _)| skew.abs() > HARMLESS_SKEW)?;
    let side = check::side_of(skew);
    let apart = human::duration(Duration::try_from_secs_f64(skew.abs()).ok()?);
    let alias = &account.overview.account.alias;
    Some(format!(
        "This host's clock is {apart} {side} that of the API, as seen by {alias}. The exporter corrects its requests for \
         it. Look at the time synchronisation of this host."
    ))
}
