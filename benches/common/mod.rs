//! What the measurements share: accounts that have been polled, and the same series in the
//! `prometheus` crate's own types.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use koodrive::{
    AppId, Credential, Endpoint, Exchange, Head, Language, PollError, Remedy, Secret, Stage, Transport, Units, UserId,
    answer, overview::OVERVIEW,
};
use koodrive_exporter::{
    account::{Account, PollPolicy},
    clock::{Moment, WallClock},
    metrics::{Exposition, OwnMetrics},
    poll::{AccountEntry, AccountStore, Limiter, Poller, Upstream},
};
use prometheus::{GaugeVec, Opts, Registry};
use tokio::{runtime::Handle, sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Answers at once, with other numbers for each account.
struct Prompt(usize);

impl Upstream for Prompt {
    async fn ask(&self, _deadline: Instant, _remedy: Option<Remedy>) -> Exchange {
        let numbers = (1_051_187 + self.0, 33_085_606 + 7 * self.0, 43 + self.0);
        let body = format!(
            r#"{{"code":0,"data":{{"totalCapacity":{},"totalUsed":{},"totalAllocation":{},"quota":"5"}}}}"#,
            numbers.0, numbers.1, numbers.2
        );
        Exchange {
            stage: Stage::Answered(Head { status: 200, clock_skew: Some(0.637_412_9), retry_after: None }),
            result: answer::read(200, body.as_bytes(), &OVERVIEW, &Units::default()),
            ..Exchange::unfinished(PollError::Panic)
        }
    }

    async fn remedy(&self, _earlier: &[Exchange], _refused: &Exchange) -> Option<Remedy> {
        None
    }
}

/// Accounts that have all been polled once, and can be polled again.
pub(crate) struct Accounts {
    pub(crate) exposition: Exposition,
    pollers: Vec<Poller<Prompt>>,
}

impl Accounts {
    pub(crate) async fn polled(accounts: usize) -> Self {
        let store = Arc::new(AccountStore::default());
        store.set((0..accounts).map(|index| store.entry(account(index), None, WallClock::system().moment())).collect());
        let limiter = Limiter::new(16);
        let poller = |(index, entry): (usize, &Arc<AccountEntry>)| Poller {
            entry: Arc::clone(entry),
            upstream: watch::channel(Arc::new(Prompt(index))).1,
            limiter: limiter.clone(),
            requests: Handle::current(),
            clock: WallClock::system(),
            observer: Arc::new(|_| {}),
            epoch: Instant::now(),
            stop: CancellationToken::new(),
        };
        let pollers: Vec<_> = store.entries().iter().enumerate().map(poller).collect();
        for poller in &pollers {
            poller.poll().await;
        }
        Self { exposition: Exposition { store, own: Arc::new(OwnMetrics::new(0.0).unwrap()) }, pollers }
    }

    /// Polls one of the accounts, in turn.
    pub(crate) async fn poll(&self, number: usize) {
        self.pollers[number % self.pollers.len()].poll().await;
    }

    /// Polls each account once a minute, evenly, for ever.
    pub(crate) async fn keep_polling(self) {
        let mut ticks = tokio::time::interval(Duration::from_mins(1) / u32::try_from(self.pollers.len()).unwrap());
        for number in 0.. {
            ticks.tick().await;
            self.poll(number).await;
        }
    }
}

/// An exposition of accounts that have all been polled once.
pub(crate) fn exposition(accounts: usize) -> Exposition {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Accounts::polled(accounts)).exposition
}

fn account(index: usize) -> Arc<Account> {
    let (minute, day) = (Duration::from_mins(1), Duration::from_hours(24));
    Arc::new(Account {
        alias: format!("account-{index:05}"),
        api: Arc::new(koodrive::Account {
            endpoint: Endpoint::parse("https://intl.myhuaweicloud-koodrive.com").unwrap(),
            user_id: UserId::parse("1505084218764547200").unwrap(),
            language: Language::default(),
            credential: Credential::App {
                app_id: AppId::parse("an-app").unwrap(),
                secret: Secret::inline("auth.app_secret", "a-secret").unwrap(),
            },
            units: Units::default(),
            transport: Transport::default(),
        }),
        collector: &OVERVIEW,
        ca_file: None,
        poll: PollPolicy { interval: minute, timeout: minute / 6, max_age: day },
    })
}

pub(crate) fn now() -> Moment {
    Moment { monotonic: Instant::now(), wall: SystemTime::now() }
}

/// The series of a text exposition as gauges of the `prometheus` crate.
pub(crate) fn registry(text: &str) -> Registry {
    let registry = Registry::new();
    let mut families: Vec<(String, Option<GaugeVec>)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels: Vec<(&str, &str)> = labels
            .trim_end_matches('}')
            .split_terminator("\",")
            .map(|label| label.split_once("=\"").unwrap())
            .map(|(name, value)| (name, value.trim_end_matches('"')))
            .collect();
        if families.last().is_none_or(|(latest, _)| latest != name) {
            let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
            let family = GaugeVec::new(Opts::new(name, "A help text of about the usual length, in one line."), &names);
            let family = family.ok().filter(|family| registry.register(Box::new(family.clone())).is_ok());
            families.push((name.to_owned(), family));
        }
        let values: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
        if let Some((_, Some(family))) = families.last() {
            family.with_label_values(&values).set(value.parse().unwrap());
        }
    }
    registry
}

/// Compresses a body at a level of 0 to 9; that of the exporter's own pages is 2.
pub(crate) fn gzip(text: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    std::io::Write::write_all(&mut encoder, text).unwrap();
    encoder.finish().unwrap()
}
