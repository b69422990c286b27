//! What one poll of each account found: a row for each, and more where that is asked for.

use std::{collections::HashSet, fmt::Write, sync::Arc};

use koodrive::{
    FieldSpec, Measure, PollError, Unit, UnitVerdict,
    overview::{TOTAL_ALLOCATION, TOTAL_CAPACITY, TOTAL_USED},
    usage::USAGE,
};
use serde_json::{Value, json};
use tracing::Level;

use super::{
    remedy::{HARMLESS_SKEW, remedy, side_of},
    table,
};
use crate::{
    account::Account,
    clock::Moment,
    config::{Config, Log},
    human,
    poll::{AccountState, AccountStore},
};

/// Used beyond this many times the capacity is hardly true.
const IMPLAUSIBLE: f64 = 2.0;

/// The state of an account with which nothing is wrong.
const GOOD: &str = "good";

/// The state of an account whose units nothing confirms, and whose numbers are strange.
const DOUBTFUL: &str = "good, unit?";

/// Used below this share of the capacity is rare, and what a capacity in the next larger unit looks like.
const RARE: f64 = 1.0 / 512.0;

/// What was found.
pub struct Online {
    accounts: Vec<Found>,
}

/// What was found of one account.
struct Found {
    account: Arc<Account>,
    state: Arc<AccountState>,
    /// The configured collectors beside the overview.
    further: Vec<(Arc<Account>, Arc<AccountState>)>,
    verdicts: Vec<UnitVerdict>,
    /// Why there is no usage, whether or not it is configured.
    usage_failure: Option<Arc<PollError>>,
}

impl Online {
    /// The configuration to poll by. Each account is asked for its usage, too, which says in which units its numbers are,
    /// and failures are for the table: they are logged at debug level alone.
    #[must_use]
    pub fn configuration(config: &Config) -> Config {
        let with_usage = |same: &[Arc<Account>]| {
            let mut collectors = same.to_vec();
            if let (Some(overview), false) = (same.first(), same.iter().any(|account| account.collector == &USAGE)) {
                collectors.push(Arc::new(Account { collector: &USAGE, ..Account::clone(overview) }));
            }
            collectors
        };
        let accounts = config.accounts.chunk_by(|a, b| a.alias == b.alias).flat_map(with_usage).collect();
        let level = if config.log.level < Level::DEBUG { Level::ERROR } else { config.log.level };
        Config { accounts, log: Log { level, ..config.log }, ..config.clone() }
    }

    /// What polls of `configured`, and of the accounts' usage, found.
    #[must_use]
    pub fn new(store: &AccountStore, configured: &[Arc<Account>], now: Moment) -> Self {
        let key = |account: &Account| (account.alias.clone(), account.collector.name);
        let configured: HashSet<_> = configured.iter().map(|account| key(account)).collect();
        let mut accounts: Vec<Found> = Vec::new();
        for entry in store.entries().iter() {
            let (account, state) = (entry.account(), entry.state());
            match accounts.last_mut() {
                Some(found) if !account.is_overview() => {
                    found.verdicts.extend(entry.unit_verdicts(&state, now));
                    if account.collector == &USAGE {
                        found.usage_failure = state.failure().cloned();
                    }
                    if configured.contains(&key(&account)) {
                        found.further.push((account, state));
                    }
                }
                _ => {
                    let (further, verdicts, usage_failure) = (Vec::new(), Vec::new(), None);
                    accounts.push(Found { account, state, further, verdicts, usage_failure });
                }
            }
        }
        Self { accounts }
    }

    /// Whether all polls that the configuration asks for succeeded, and no unit contradicts what they found.
    #[must_use]
    pub fn all_good(&self) -> bool {
        self.accounts.iter().all(Found::is_good)
    }

    /// A row for each account. `colours` are for a terminal.
    #[must_use]
    pub fn table(&self, colours: bool) -> String {
        let header = ["ACCOUNT", "STATE", "USED", "ALLOCATED", "TIME", "CLOCK SKEW", "LOOK AT"].map(ToOwned::to_owned);
        let good: Vec<_> = self.accounts.iter().map(Found::is_good).collect();
        let rows = self.accounts.iter().map(Found::row);
        table([header].into_iter().chain(rows), if colours { &good } else { &[] })
    }

    /// The errors in words, the API's own numbers and what is known of their units, for each account.
    #[must_use]
    pub fn details(&self) -> String {
        let mut text = String::new();
        for found in &self.accounts {
            for detail in found.details() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{}: {detail}", found.account.alias);
            }
        }
        text
    }

    /// The same for a program.
    #[must_use]
    pub fn json(&self) -> String {
        let accounts: Vec<Value> = self.accounts.iter().map(Found::json).collect();
        format!("{:#}\n", json!({ "good": self.all_good(), "accounts": accounts }))
    }
}

impl Found {
    fn measure(&self, field: FieldSpec) -> Option<Measure> {
        self.state.numbers.as_ref()?.answer.measure(field)
    }

    fn doubtful(&self) -> impl Iterator<Item = &UnitVerdict> {
        self.verdicts.iter().filter(|verdict| verdict.is_doubtful())
    }

    fn used_and_capacity(&self) -> Option<(f64, f64)> {
        Some((self.measure(TOTAL_USED)?.value, self.measure(TOTAL_CAPACITY)?.value))
    }

    fn is_implausible(&self) -> bool {
        self.used_and_capacity().is_some_and(|(used, capacity)| used > IMPLAUSIBLE * capacity)
    }

    fn is_good(&self) -> bool {
        [GOOD, DOUBTFUL].contains(&self.state_word())
    }

    fn is_rare(&self) -> bool {
        let is_rare = |(used, capacity): (f64, f64)| used > 0.0 && used < RARE * capacity;
        self.verdicts.is_empty() && self.used_and_capacity().is_some_and(is_rare)
    }

    /// [`GOOD`], [`DOUBTFUL`], `wrong unit` where one is wrong by all that is known, or the reason of the failure.
    fn state_word(&self) -> &'static str {
        let further = self.further.iter().find_map(|(_, state)| state.failure());
        match (self.state.failure(), further) {
            _ if self.state.latest.is_none() => "not polled",
            (Some(failure), _) => failure.reason().as_str(),
            // It makes every number wrong.
            _ if self.doubtful().next().is_some() || self.is_implausible() => "wrong unit",
            (None, Some(failure)) => failure.reason().as_str(),
            (None, None) if self.is_rare() => DOUBTFUL,
            (None, None) => GOOD,
        }
    }

    fn row(&self) -> [String; 7] {
        let unknown = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let bytes = |field| self.measure(field).map(|measure| human::bytes(measure.value));
        let used = match (bytes(TOTAL_USED), bytes(TOTAL_CAPACITY), self.percent_used()) {
            (Some(used), Some(capacity), Some(percent)) => Some(format!("{used} of {capacity} ({percent:.1} %)")),
            (Some(used), Some(capacity), None) => Some(format!("{used} of {capacity}")),
            (used, _, _) => used,
        };
        let allocated = self.measure(TOTAL_ALLOCATION).map(|measure| self.account.allocation(measure.value));
        let time = self.state.latest.as_ref().map(|latest| format!("{:.3} s", latest.duration.as_secs_f64()));
        let skew = self.state.clock_skew.map(|skew| format!("{skew:+.1} s"));
        [
            self.account.alias.clone(),
            self.state_word().to_owned(),
            unknown(used),
            unknown(allocated),
            unknown(time),
            unknown(skew),
            self.remedy().unwrap_or_default(),
        ]
    }

    fn percent_used(&self) -> Option<f64> {
        let (used, capacity) = self.used_and_capacity()?;
        (capacity > 0.0).then_some(100.0 * used / capacity)
    }

    /// What to do about what is wrong.
    fn remedy(&self) -> Option<String> {
        if let Some(failure) = self.state.failure() {
            return Some(remedy(&self.account, failure, self.state.clock_skew).into_owned());
        }
        let mut remedies: Vec<_> = self.doubtful().map(ToString::to_string).collect();
        for (account, state) in &self.further {
            let remedy = state.failure().map(|failure| remedy(account, failure, state.clock_skew));
            remedies.extend(remedy.map(|remedy| format!("{}: {remedy}", account.collector.name)));
        }
        if !remedies.is_empty() {
            return Some(remedies.join("; "));
        }
        if self.is_implausible() {
            let advice =
                "units: usage is far above the capacity; compare the raw numbers (--verbose) with KooDrive's console";
            return Some(advice.to_owned());
        }
        if self.is_rare() {
            let advice =
                "units: usage is very low, and the units could not be verified; compare with KooDrive's console";
            return Some(advice.to_owned());
        }
        let skew = self.state.clock_skew.filter(|skew| skew.abs() > HARMLESS_SKEW)?;
        let side = side_of(skew);
        Some(format!("this host's time synchronisation: {:.0} s {side} the API's; polls correct for it", skew.abs()))
    }

    fn details(&self) -> Vec<String> {
        let mut details = Vec::new();
        let overview = (&self.account, &self.state);
        for (account, state) in
            [overview].into_iter().chain(self.further.iter().map(|(account, state)| (account, state)))
        {
            let name = account.collector.name;
            if let Some(failure) = state.failure() {
                details.push(format!("{name}: {failure}"));
            }
            for (spec, field) in state.numbers.iter().flat_map(|numbers| numbers.answer.fields()) {
                if let Ok(measure) = field {
                    let unit = account.api.units.of(account.collector, spec).map_or("", Unit::as_str);
                    details.push(format!("{name}: {} {} {unit}", spec.name, measure.reported).trim_end().to_owned());
                }
            }
        }
        details.extend(self.verdicts.iter().map(ToString::to_string));
        if self.verdicts.is_empty() {
            let why = match (&self.state.numbers, &self.usage_failure) {
                (_, Some(why)) => format!("the usage could not be read: {why}"),
                (None, None) => "the overview could not be read".to_owned(),
                (Some(_), None) => "all values are 0".to_owned(),
            };
            details.push(format!("units could not be verified: {why}"));
        }
        details
    }

    fn json(&self) -> Value {
        let value = |field| self.measure(field).map(|measure| measure.value);
        let failure = |state: &AccountState| {
            state.failure().map(
                |failure| json!({ "reason": failure.reason().as_str(), "code": failure.refusal().and_then(|refusal| refusal.code.as_deref()), "error": failure.to_string() }),
            )
        };
        let collectors = self.further.iter().map(|(account, state)| {
            (account.collector.name.to_owned(), json!({ "up": state.up(), "failure": failure(state) }))
        });
        let units = self.verdicts.iter().map(|verdict| {
            json!({
                "field": verdict.field.name,
                "configured": verdict.configured.as_str(),
                "fits": verdict.fits.map(Unit::as_str),
                "doubtful": verdict.is_doubtful(),
            })
        });
        json!({
            "account": self.account.alias,
            "state": self.state_word(),
            "failure": failure(&self.state),
            "used_bytes": value(TOTAL_USED),
            "capacity_bytes": value(TOTAL_CAPACITY),
            "allocated": value(TOTAL_ALLOCATION),
            "allocated_unit": if self.account.counts_allocations() { "count" } else { "bytes" },
            "duration_seconds": self.state.latest.as_ref().map(|latest| latest.duration.as_secs_f64()),
            "clock_skew_seconds": self.state.clock_skew,
            "collectors": collectors.collect::<serde_json::Map<_, _>>(),
            "units": units.collect::<Vec<_>>(),
            "look_at": self.remedy(),
        })
    }
}
