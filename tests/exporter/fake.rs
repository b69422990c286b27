//! Poll loops in paused time, against an upstream that is a function.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use exporter_toolkit::{Coding, Exporter, Format, Options, Routes};
use koodrive::{
    Client, ConnectFailure, ConnectionKey, Credential, Endpoint, Exchange, Head, Language, PollError, Remedy, Secret,
    ServerClock, Stage, Transport, Units, UserId, answer, build_http, overview::OVERVIEW,
};
use koodrive_exporter::{
    account::{Account, PollPolicy},
    clock::{Moment, WallClock},
    collector::KooDrive,
    metrics::{Exposition, OwnMetrics},
    poll::{AccountEntry, AccountStore, Limiter, Poller, Upstream, schedule::first_poll},
};
use tokio::{runtime::Handle, sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

pub const MINUTE: Duration = Duration::from_mins(1);
pub const INSTANTLY: Duration = Duration::from_millis(1);

const GOOD: &str = r#"{"code":0,"data":{"totalCapacity":3,"totalUsed":2,"totalAllocation":1}}"#;

/// A good answer.
pub fn good() -> Exchange {
    answer_with(200, GOOD)
}

/// The answer that this status and body are.
pub fn answer_with(status: u16, body: &str) -> Exchange {
    let result = answer::read(status, body.as_bytes(), &OVERVIEW, &Units::default());
    let stage = Stage::Answered(Head { status, clock_skew: None, retry_after: None });
    Exchange { stage, result, ..Exchange::unfinished(PollError::Panic) }
}

/// An answer that asks for patience.
pub fn asking_for_patience(status: u16, patience: Duration) -> Exchange {
    let stage = Stage::Answered(Head { status, clock_skew: None, retry_after: Some(patience) });
    Exchange { stage, ..answer_with(status, "") }
}

/// A request that was never answered.
pub fn unanswered() -> Exchange {
    Exchange {
        stage: Stage::Sent,
        ..Exchange::unfinished(PollError::Connect(ConnectFailure::Other, "reset".to_owned()))
    }
}

/// How requests are answered, by their number from 0: after how long, and with what.
type Answers = Box<dyn Fn(usize) -> (Duration, Exchange) + Send + Sync>;

/// An upstream that follows orders, and ignores deadlines.
pub struct Fake {
    answers: Answers,
    pub differs: bool,
    /// Whether the question if a request would differ is never answered.
    pub never_tells: bool,
    began: Mutex<Vec<Instant>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Fake {
    pub fn new(answers: impl Fn(usize) -> (Duration, Exchange) + Send + Sync + 'static) -> Self {
        let (began, in_flight, most_in_flight) = (Mutex::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        Self { answers: Box::new(answers), differs: false, never_tells: false, began, in_flight, most_in_flight }
    }

    /// One whose good answers take some time.
    pub fn taking(takes: Duration) -> Arc<Self> {
        Arc::new(Self::new(move |_| (takes, good())))
    }

    /// When each request began.
    pub fn began(&self) -> Vec<Instant> {
        self.began.lock().unwrap().clone()
    }

    /// The whole seconds between the beginnings of requests.
    pub fn gaps(&self) -> Vec<u64> {
        self.began().windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect()
    }

    pub fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::SeqCst)
    }
}

/// Counts a request out when it ends, however it ends.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Upstream for Fake {
    async fn ask(&self, _deadline: Instant, _remedy: Option<Remedy>) -> Exchange {
        let number = {
            let mut began = self.began.lock().unwrap();
            began.push(Instant::now());
            began.len() - 1
        };
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let _in_flight = InFlight(&self.in_flight);
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let (takes, exchange) = (self.answers)(number);
        tokio::time::sleep(takes).await;
        exchange
    }

    async fn remedy(&self, _earlier: &[Exchange], _refused: &Exchange) -> Option<Remedy> {
        if self.never_tells {
            std::future::pending::<()>().await;
        }
        self.differs.then_some(Remedy::OtherSecret)
    }
}

/// A client of the overview, with connections and a server's clock of its own.
pub fn client(api: koodrive::Account) -> Client {
    let http = build_http(&ConnectionKey { transport: api.transport.clone(), timeout: MINUTE }, "test", 1).unwrap();
    let (clock, server_clock) = (Arc::new(SystemTime::now), Arc::<ServerClock>::default());
    Client::new(http, Arc::new(api), &OVERVIEW, clock, server_clock)
}

pub fn account(alias: &str, interval: Duration) -> Arc<Account> {
    Arc::new(Account {
        alias: alias.to_owned(),
        api: Arc::new(koodrive::Account {
            endpoint: Endpoint::parse("https://koodrive.example").unwrap(),
            user_id: UserId::parse("1").unwrap(),
            language: Language::default(),
            credential: Credential::Token {
                token: Secret::inline("auth.token", "x").unwrap(),
                prefix: "Bearer ".to_owned(),
            },
            units: Units::default(),
            transport: Transport::default(),
        }),
        collector: &OVERVIEW,
        ca_file: None,
        poll: PollPolicy { interval, timeout: interval / 6, max_age: 3 * interval },
    })
}

/// Running loops of some accounts.
pub struct Loops {
    pub store: Arc<AccountStore>,
    clock: WallClock,
    /// By how many seconds the wall clock has been set forward.
    pub clock_step: Arc<AtomicI64>,
    _tasks: JoinSet<()>,
}

impl Loops {
    /// Accounts that are polled every minute, all from one upstream.
    pub fn start(accounts: usize, concurrency: usize, upstream: &Arc<Fake>) -> Self {
        Self::each(accounts, concurrency, MINUTE, |_| Arc::clone(upstream))
    }

    /// Accounts that are polled every `interval`, each from an upstream of its own.
    pub fn each(
        accounts: usize,
        concurrency: usize,
        interval: Duration,
        upstream: impl Fn(usize) -> Arc<Fake>,
    ) -> Self {
        let accounts: Vec<_> = (0..accounts).map(|index| account(&format!("account-{index:04}"), interval)).collect();
        let store = Arc::new(AccountStore::default());
        store.set(
            accounts
                .iter()
                .map(|account| store.entry(Arc::clone(account), None, WallClock::system().moment()))
                .collect(),
        );
        let (epoch, clock_step) = (Instant::now(), Arc::new(AtomicI64::new(0)));
        let step = Arc::clone(&clock_step);
        let clock = WallClock(Arc::new(move || {
            let seconds = 1_000_000_000 + step.load(Ordering::SeqCst);
            UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()) + epoch.elapsed()
        }));
        let limiter = Limiter::new(concurrency);
        let mut tasks = JoinSet::new();
        for (index, entry) in store.entries().iter().enumerate() {
            let poller =
                Poller { limiter: limiter.clone(), clock: clock.clone(), epoch, ..poller(entry, &upstream(index)) };
            tasks.spawn(poller.run(first_poll(&entry.account(), index, epoch, epoch)));
        }
        Self { store, clock, clock_step, _tasks: tasks }
    }

    pub fn wall(&self) -> SystemTime {
        self.clock.now()
    }

    pub fn exposition(&self) -> String {
        let now = self.clock.moment();
        String::from_utf8(self.shown().encode(Format::Text0, Coding::Identity, now).0.concat()).unwrap()
    }

    /// The pages as a server has them.
    pub fn routes(&self) -> Routes {
        let exporter = Exporter::new(KooDrive::new(self.shown(), self.clock.clone(), None));
        let options = Options { namespace: Some("koodrive_exporter".to_owned()), ..Options::default() };
        exporter.routes(&options).unwrap()
    }

    fn shown(&self) -> Exposition {
        Exposition { store: Arc::clone(&self.store), own: Arc::new(OwnMetrics::new(0.0).unwrap()) }
    }

    /// The first account's value of a family.
    pub fn value(&self, family: &str) -> f64 {
        let series = format!("{family}{{account=\"account-0000\"}} ");
        let exposition = self.exposition();
        let line = exposition.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
    }
}

/// A moment that is the same in every run, on the wall clock.
pub fn fixed_now() -> Moment {
    Moment { monotonic: Instant::now(), wall: UNIX_EPOCH + Duration::from_secs(1_000_000_000) }
}

/// The exposition of one account that has been polled once, at [`fixed_now`].
pub async fn polled_once(account: Account, answer: Exchange) -> Exposition {
    let store = Arc::new(AccountStore::default());
    store.set(vec![store.entry(Arc::new(account), None, fixed_now())]);
    let answer = Mutex::new(Some(answer));
    let answers = move |_| (Duration::from_millis(250), answer.lock().unwrap().take().unwrap());
    let own = Arc::new(OwnMetrics::new(0.0).unwrap());
    let observed = Arc::clone(&own);
    let poller = Poller {
        clock: WallClock(Arc::new(|| fixed_now().wall)),
        observer: Arc::new(move |finished| observed.polled(finished)),
        ..poller(&store.entries()[0], &Arc::new(Fake::new(answers)))
    };
    poller.poll().await;
    Exposition { store, own }
}

/// A poller of an account that stays as it is.
pub fn poller(entry: &Arc<AccountEntry>, upstream: &Arc<Fake>) -> Poller<Fake> {
    Poller {
        entry: Arc::clone(entry),
        upstream: watch::channel(Arc::clone(upstream)).1,
        limiter: Limiter::new(1),
        requests: Handle::current(),
        clock: WallClock::system(),
        observer: Arc::new(|_| {}),
        epoch: Instant::now(),
        stop: CancellationToken::new(),
    }
}
