//! The poll loops while all is as usual: schedule, bounds, staleness.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use koodrive_exporter::poll::{Limiter, Poller};
use tokio::{sync::watch, time::Instant};

use crate::fake::{Fake, INSTANTLY, Loops, MINUTE, good, poller, unanswered};

/// An upstream that is good or not, as the flag says.
fn switched(is_good: &Arc<AtomicBool>) -> Arc<Fake> {
    let is_good = Arc::clone(is_good);
    Arc::new(Fake::new(move |_| (INSTANTLY, if is_good.load(Ordering::SeqCst) { good() } else { unanswered() })))
}

#[tokio::test(start_paused = true)]
async fn up_to_ten_accounts_are_polled_within_the_first_second() {
    let upstream = Fake::taking(INSTANTLY);
    let loops = Loops::start(10, 16, &upstream);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(upstream.began().len(), 10);
    assert!(loops.store.ready());
}

#[tokio::test(start_paused = true)]
async fn many_accounts_are_polled_once_each_interval_and_never_in_a_herd() {
    let upstream = Fake::taking(Duration::from_millis(100));
    let start = Instant::now();
    let _loops = Loops::start(1000, 1000, &upstream);
    tokio::time::sleep(3 * MINUTE).await;
    let began = upstream.began();
    let in_second = |second| began.iter().filter(|began| (**began - start).as_secs() == second).count();
    let first = |seconds: std::ops::Range<u64>| seconds.map(in_second).collect::<Vec<_>>();
    assert!(first(0..10).iter().all(|polls| (80..=140).contains(polls)), "first polls are paced: {:?}", first(0..10));
    assert!(first(10..180).iter().all(|polls| (2..=40).contains(polls)), "{:?}", first(10..180));
    assert_eq!(first(60..180).iter().sum::<usize>(), 2000);
}

#[tokio::test(start_paused = true)]
async fn polls_in_flight_are_bounded_over_all_accounts() {
    let upstream = Fake::taking(Duration::from_millis(900));
    let _loops = Loops::start(1000, 7, &upstream);
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(upstream.most_in_flight(), 7);
}

#[tokio::test(start_paused = true)]
async fn an_account_is_never_polled_twice_at_once_and_missed_ticks_are_skipped() {
    let upstream = Fake::taking(MINUTE * 5 / 2);
    let _loops = Loops::start(1, 16, &upstream);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(upstream.most_in_flight(), 1);
    assert_eq!(upstream.gaps()[1..], [180, 180], "each on the account's next tick");
}

#[tokio::test(start_paused = true)]
async fn values_are_shown_until_max_age_and_again_after_the_next_good_poll() {
    let is_good = Arc::new(AtomicBool::new(true));
    let loops = Loops::start(1, 16, &switched(&is_good));
    let shown = || loops.exposition().contains("\nkoodrive_space_used_bytes{account=\"account-0000\"} 2048\n");
    let up = || loops.exposition().contains("\nkoodrive_up{account=\"account-0000\"} 1\n");
    assert!(!shown() && !up(), "nothing is known yet");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(shown() && up());
    is_good.store(false, Ordering::SeqCst);
    tokio::time::sleep(2 * MINUTE).await;
    assert!(shown() && !up(), "old values are shown while they are fresh");
    tokio::time::sleep(MINUTE).await;
    assert!(!shown() && !up(), "and then they vanish");
    assert!(!loops.exposition().contains("koodrive_space_"), "headers too");
    assert!(loops.exposition().contains("koodrive_polls_total{account=\"account-0000\"} 4\n"), "counters stay");
    is_good.store(true, Ordering::SeqCst);
    tokio::time::sleep(MINUTE).await;
    assert!(shown() && up());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_failing_polls_leave_no_task_behind() {
    let upstream = switched(&Arc::new(AtomicBool::new(false)));
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
    let state = loops.store.entries()[0].state();
    let (began, success) = (state.latest.as_ref().unwrap().began.wall, state.last_success.unwrap().wall);
    assert_eq!(success.duration_since(began).unwrap(), Duration::from_secs(2));
    let since_success = loops.wall().duration_since(success).unwrap();
    assert!((Duration::from_secs(7)..=Duration::from_secs(8)).contains(&since_success), "{since_success:?}");
}

#[tokio::test(start_paused = true)]
async fn health_shows_a_stuck_loop_within_four_intervals_and_not_a_loop_that_waits_its_turn() {
    let upstream = Fake::taking(100 * MINUTE);
    let loops =
        Loops::each(3, 1, MINUTE, |index| if index == 0 { Arc::clone(&upstream) } else { Fake::taking(INSTANTLY) });
    tokio::time::sleep(3 * MINUTE).await;
    assert!(loops.store.alive());
    tokio::time::sleep(MINUTE + Duration::from_secs(2)).await;
    let alive: Vec<bool> = loops.store.entries().iter().map(|slot| slot.alive()).collect();
    assert_eq!(alive, [false, true, true], "one poll never ends, the other loops wait for its permit");
    assert!(!loops.store.alive());
}

#[tokio::test(start_paused = true)]
async fn poll_that_waited_for_its_permit_asks_what_a_reload_has_put_in_place() {
    let (before, after, slow) = (Fake::taking(INSTANTLY), Fake::taking(INSTANTLY), Fake::taking(MINUTE / 10));
    let loops = Loops::start(1, 1, &before);
    let entry = Arc::clone(&loops.store.entries()[0]);
    drop(loops);
    let limiter = Limiter::new(1);
    let busy = Poller { limiter: limiter.clone(), ..poller(&entry, &slow) };
    let busy = tokio::spawn(async move { busy.poll().await });
    let (reload, current) = watch::channel(Arc::clone(&before));
    let waiting = Poller { limiter, upstream: current, ..poller(&entry, &before) };
    let waiting = tokio::spawn(async move { waiting.poll().await });
    tokio::time::sleep(INSTANTLY).await;
    assert_eq!(slow.began().len(), 1);
    reload.send(Arc::clone(&after)).unwrap();
    busy.await.unwrap();
    waiting.await.unwrap();
    assert_eq!((before.began().len(), after.began().len()), (0, 1));
}
