//! The poll loops in paused time, against an upstream that is a function.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use koodrive_exporter::{
    account::{Account, Credential, Endpoint, Language, PollPolicy, Secret, Transport, Units, UserId},
    clock::WallClock,
    koodrive::{Exchange, PollError, answer},
    metrics::{Exposition, Format, OwnMetrics},
    poll::{Board, Now, Poller, Upstream},
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

const MINUTE: Duration = Duration::from_mins(1);
const GOOD: &str = r#"{"code":0,"data":{"totalCapacity":3,"totalUsed":2,"totalAllocation":1}}"#;

/// An upstream in which each request takes some time and then succeeds or not.
struct Fake {
    takes: Duration,
    good: Mutex<bool>,
    began: Mutex<Vec<Instant>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl Fake {
    fn taking(takes: Duration) -> Arc<Self> {
        let (began, in_flight, most_in_flight) = (Mutex::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { takes, good: Mutex::new(true), began, in_flight, most_in_flight })
    }

    fn began(&self) -> Vec<Instant> {
        self.began.lock().unwrap().clone()
    }
}

impl Upstream for Fake {
    async fn overview(&self, _deadline: Instant) -> Exchange {
        self.began.lock().unwrap().push(Instant::now());
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(self.takes).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        let result = if *self.good.lock().unwrap() {
            answer::read(200, GOOD.as_bytes(), Units::default())
        } else {
            Err(PollError::Timeout(self.takes))
        };
        Exchange { trace_id: String::new(), sent: true, status: Some(200), clock_skew: None, result }
    }
}

fn account(alias: &str) -> Arc<Account> {
    Arc::new(Account {
        alias: alias.to_owned(),
        endpoint: Endpoint::parse("https://koodrive.example").unwrap(),
        user_id: UserId::parse("1").unwrap(),
        language: Language::default(),
        credential: Credential::Token { token: Secret::inline("x").unwrap(), prefix: "Bearer ".to_owned() },
        units: Units::default(),
        poll: PollPolicy { interval: MINUTE, timeout: MINUTE / 6, max_age: 3 * MINUTE },
        transport: Transport::default(),
    })
}

/// Running loops of some accounts, all against one upstream.
struct Loops {
    board: Arc<Board>,
    clock: WallClock,
    _tasks: JoinSet<()>,
}

impl Loops {
    fn start(accounts: usize, concurrency: usize, upstream: &Arc<Fake>) -> Self {
        let accounts: Vec<_> = (0..accounts).map(|index| account(&format!("account-{index:04}"))).collect();
        let board = Arc::new(Board::new(&accounts));
        let started = Instant::now();
        let clock = WallClock::new(move || UNIX_EPOCH + MINUTE + started.elapsed());
        let permits = Arc::new(Semaphore::new(concurrency));
        let mut tasks = JoinSet::new();
        for slot in board.slots() {
            let poller = Poller {
                slot: Arc::clone(slot),
                upstream: Arc::clone(upstream),
                permits: Arc::clone(&permits),
                clock: clock.clone(),
                observer: Arc::new(|_| {}),
            };
            tasks.spawn(poller.run(board.slots().len()));
        }
        Self { board, clock, _tasks: tasks }
    }

    fn exposition(&self) -> String {
        let own = Arc::new(OwnMetrics::new().unwrap());
        let now = Now { monotonic: Instant::now(), wall: self.clock.now() };
        Exposition { board: Arc::clone(&self.board), own }.encode(Format::Text, now)
    }
}

#[tokio::test(start_paused = true)]
async fn up_to_ten_accounts_are_polled_within_the_first_second() {
    let upstream = Fake::taking(Duration::from_millis(1));
    let loops = Loops::start(10, 16, &upstream);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(upstream.began().len(), 10);
    assert!(loops.board.polled());
}

#[tokio::test(start_paused = true)]
async fn many_accounts_are_polled_once_each_interval_and_never_in_a_herd() {
    let upstream = Fake::taking(Duration::from_millis(100));
    let start = Instant::now();
    let _loops = Loops::start(1000, 1000, &upstream);
    tokio::time::sleep(3 * MINUTE).await;
    let began = upstream.began();
    assert_eq!(began.len(), 3000);
    for second in 0..180 {
        let polls = began.iter().filter(|instant| (**instant - start).as_secs() == second).count();
        assert!((2..=40).contains(&polls), "{polls} polls in second {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn polls_in_flight_are_bounded_over_all_accounts() {
    let upstream = Fake::taking(Duration::from_secs(5));
    let _loops = Loops::start(100, 7, &upstream);
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(upstream.most_in_flight.load(Ordering::SeqCst), 7);
}

#[tokio::test(start_paused = true)]
async fn an_account_is_never_polled_twice_at_once_and_missed_ticks_are_skipped() {
    let upstream = Fake::taking(MINUTE * 5 / 2);
    let _loops = Loops::start(1, 16, &upstream);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(upstream.most_in_flight.load(Ordering::SeqCst), 1);
    let began = upstream.began();
    let gaps: Vec<u64> = began.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(gaps, [180, 180, 180], "each on the next tick of the first one's grid");
}

#[tokio::test(start_paused = true)]
async fn values_are_shown_until_max_age_and_again_after_the_next_good_poll() {
    let upstream = Fake::taking(Duration::from_millis(1));
    let loops = Loops::start(1, 16, &upstream);
    let shown = || loops.exposition().contains("\nkoodrive_space_used_bytes{account=\"account-0000\"} 2048\n");
    let up = || loops.exposition().contains("\nkoodrive_up{account=\"account-0000\"} 1\n");
    assert!(!shown() && !up(), "nothing is known yet");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(shown() && up());
    *upstream.good.lock().unwrap() = false;
    tokio::time::sleep(2 * MINUTE).await;
    assert!(shown() && !up(), "old values are shown while they are fresh");
    tokio::time::sleep(MINUTE).await;
    assert!(!shown() && !up(), "and then they vanish");
    assert!(!loops.exposition().contains("koodrive_space_"), "headers too");
    assert!(loops.exposition().contains("koodrive_polls_total{account=\"account-0000\"} 4\n"), "counters stay");
    *upstream.good.lock().unwrap() = true;
    tokio::time::sleep(MINUTE).await;
    assert!(shown() && up());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_failing_polls_leave_no_task_behind() {
    let upstream = Fake::taking(Duration::from_millis(1));
    *upstream.good.lock().unwrap() = false;
    let _loops = Loops::start(10, 16, &upstream);
    let tasks = tokio::runtime::Handle::current().metrics();
    tokio::time::sleep(MINUTE).await;
    let before = tasks.num_alive_tasks();
    tokio::time::sleep(1000 * MINUTE).await;
    assert!(upstream.began().len() >= 10_000);
    assert_eq!(tasks.num_alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn timestamps_are_of_the_wall_clock_and_of_whole_successes() {
    let upstream = Fake::taking(Duration::from_secs(2));
    let loops = Loops::start(1, 16, &upstream);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let state = loops.board.slots()[0].state();
    let (began, success) = (state.latest.as_ref().unwrap().began, state.last_success.unwrap());
    assert_eq!(success.duration_since(began).unwrap(), Duration::from_secs(2));
    assert!(began >= SystemTime::UNIX_EPOCH + MINUTE && success <= UNIX_EPOCH + MINUTE + Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn health_tells_a_stuck_loop_within_four_intervals_and_not_a_loop_that_waits_its_turn() {
    let upstream = Fake::taking(100 * MINUTE);
    let loops = Loops::start(3, 2, &upstream);
    tokio::time::sleep(3 * MINUTE).await;
    assert!(loops.board.alive());
    tokio::time::sleep(MINUTE + Duration::from_secs(2)).await;
    let alive = loops.board.slots().iter().filter(|slot| slot.alive()).count();
    assert_eq!(alive, 1, "two polls never end, the third account's loop waits for a permit");
    assert!(!loops.board.alive());
}
