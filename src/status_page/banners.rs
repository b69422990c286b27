//! What is wrong beside single polls: above the tables, each with its runbook.

use std::time::Duration;

use exporter_toolkit::WebConfigState;
use maud::{Markup, html};

use super::{Account, runbook};
use crate::{
    check::{CERTIFICATE_EXPIRES_SOON, HARMLESS_SKEW},
    clock::{Moment, unix_seconds},
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
    let reload = (!own.config_is_good())
        .then(|| ("The latest reload of the configuration failed; the log says why.".to_owned(), CONFIG_RELOAD_FAILED));
    let web_reload = web_config.filter(|read| !read.successful).map(|_| {
        let text =
            "The latest reload of the web configuration file, or of a file that it names, failed; the log says why.";
        (text.to_owned(), CONFIG_RELOAD_FAILED)
    });
    let certificate = web_config
        .and_then(|read| of_certificate(read.certificate_expiry?, now))
        .map(|text| (text, "KooDriveCertificateExpiry"));
    let skew = clock_skew(accounts).map(|text| (text, "KooDriveClockSkew"));
    let dropped = own.dropped_log_lines();
    html! {
        @for (text, name) in [reload, web_reload, certificate, skew].into_iter().flatten() {
            p role="alert" { (text) (runbook(runbooks, name)) }
        }
        @if dropped > 0 {
            p role="alert" { (dropped) " log lines were dropped, as standard error was not read in time." }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
fn of_certificate(expiry: i64, now: Moment) -> Option<String> {
    let left = expiry as f64 - unix_seconds(now.wall);
    let time = human::duration(Duration::try_from_secs_f64(left.abs()).ok()?);
    match left {
        ..=0.0 => Some(format!("The listener's certificate expired {time} ago: clients that verify it fail.")),
        ..CERTIFICATE_EXPIRES_SOON => Some(format!("The listener's certificate expires in {time}.")),
        _ => None,
    }
}

/// The largest difference between this host's clock and that of an account's API, where it fires `KooDriveClockSkew`.
fn clock_skew(accounts: &[Account]) -> Option<String> {
    let skews = accounts.iter().filter_map(|account| Some((account.overview.state.clock_skew?.abs(), account)));
    let (skew, account) = skews.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(skew, _)| *skew > HARMLESS_SKEW)?;
    let skew = human::duration(Duration::try_from_secs_f64(skew).ok()?);
    let alias = &account.overview.account.alias;
    Some(format!(
        "This host's clock and that of the API of {alias} are {skew} apart. Look at the time synchronisation of this host."
    ))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_certificate_is_told_from_two_weeks_before_its_end_on() {
        let now = Moment { wall: SystemTime::UNIX_EPOCH, monotonic: Instant::now() };
        let day = 86_400;
        assert_eq!(of_certificate(15 * day, now), None);
        assert_eq!(of_certificate(2 * day, now).unwrap(), "The listener's certificate expires in 2 d.");
        assert!(of_certificate(-3600, now).unwrap().contains("expired 1 h ago"));
    }
}
