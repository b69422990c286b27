//! The poll loops on a bad day: retries, patience, pauses, clocks, panics, neighbours that hang.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use koodrive::{CredentialRead, Exchange};
use tokio::time::Instant;

use crate::fake::{Fake, INSTANTLY, Loops, MINUTE, answer_with, asking_for_patience, good, unanswered};

#[tokio::test(start_paused = true)]
async fn a_passing_failure_is_mended_within_the_poll() {
    let upstream = Arc::new(Fake::new(|request| (INSTANTLY, if request < 2 { unanswered() } else { good() })));
    let loops = Loops::start(1, 16, &upstream);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(upstream.began().len(), 3);
    assert_eq!((loops.value("koodrive_up"), loops.value("koodrive_polls_total")), (1.0, 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_poll_gives_up_after_three_requests() {
    let upstream = Arc::new(Fake::new(|_| (INSTANTLY, answer_with(503, ""))));
    let loops = Loops::start(1, 16, &upstream);
    tokio::time::sleep(MINUTE * 5 / 2).await;
    assert!(loops.value("koodrive_polls_total") >= 2.0);
    assert_eq!(upstream.began().len() as u64, 3 * loops.store.entries()[0].state().polls);
    assert_eq!(loops.value("koodrive_up"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_asked_again_only_where_the_request_would_differ() {
    for (differs, requests) in [(false, 1), (true, 2)] {
        let mut upstream = Fake::new(|request| (INSTANTLY, if request == 0 { answer_with(401, "") } else { good() }));
        upstream.differs = differs;
        let upstream = Arc::new(upstream);
        let loops = Loops::start(1, 16, &upstream);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(upstream.began().len(), requests);
        assert_eq!(loops.value("koodrive_up") == 1.0, differs);
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_again_does_not_hold_the_poll_beyond_its_timeout() {
    let mut upstream = Fake::new(|_| (INSTANTLY, answer_with(401, "")));
    upstream.never_tells = true;
    let loops = Loops::start(1, 16, &Arc::new(upstream));
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!((loops.value("koodrive_polls_total"), loops.value("koodrive_up")), (1.0, 0.0));
    assert!(loops.store.alive());
}

#[tokio::test(start_paused = true)]
async fn retry_after_moves_the_next_poll_but_never_so_far_that_a_token_dies() {
    for (seconds, gap) in [(0, 60), (59, 60), (150, 180), (86_400, 19 * 60)] {
        let patience = Duration::from_secs(seconds);
        let upstream = Arc::new(Fake::new(move |_| (Duration::ZERO, asking_for_patience(429, patience))));
        let _loops = Loops::start(1, 16, &upstream);
        tokio::time::sleep(60 * MINUTE).await;
        assert_eq!(upstream.gaps()[1], gap, "Retry-After: {seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_called_in_time_although_a_poll_never_reached_the_api() {
    let upstream =
        Arc::new(Fake::new(|request| (INSTANTLY, if (1..4).contains(&request) { unanswered() } else { good() })));
    let _loops = Loops::each(1, 16, MINUTE * 15, |_| Arc::clone(&upstream));
    tokio::time::sleep(40 * MINUTE).await;
    let began = upstream.began();
    let next_answered = began[4] - began[0];
    assert!(next_answered < 20 * MINUTE, "{next_answered:?} between two calls that reached the API");
}

#[tokio::test(start_paused = true)]
async fn accounts_that_are_all_asked_to_wait_until_one_moment_stay_spread() {
    let over = Instant::now() + MINUTE * 5;
    let upstream = Arc::new(Fake::new(move |_| {
        let left = over.saturating_duration_since(Instant::now());
        (Duration::ZERO, if left.is_zero() { good() } else { asking_for_patience(503, left) })
    }));
    let _loops = Loops::start(600, 1000, &upstream);
    tokio::time::sleep(MINUTE * 7).await;
    let after: Vec<u64> = upstream.began().iter().filter(|at| **at >= over).map(|at| (*at - over).as_secs()).collect();
    for second in 0..120 {
        let polls = after.iter().filter(|began| **began == second).count();
        assert!(polls <= 25, "{polls} polls in second {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_slow_for_everybody_is_polled_with_the_whole_concurrency() {
    let upstream = Fake::taking(Duration::from_millis(1500));
    let loops = Loops::each(100, 16, MINUTE / 6, |_| Arc::clone(&upstream));
    tokio::time::sleep(10 * MINUTE).await;
    let polls: Vec<u64> = loops.store.entries().iter().map(|slot| slot.state().polls).collect();
    let failed = loops
        .store
        .entries()
        .iter()
        .flat_map(|slot| slot.state().failures().map(|(_, count)| count).collect::<Vec<_>>())
        .sum::<u64>();
    assert!(polls.iter().all(|polls| *polls >= 45), "of 60: {polls:?}");
    assert_eq!(failed, 0);
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_stretch_the_interval_up_to_threefold_and_a_success_restores_it() {
    let upstream =
        Arc::new(Fake::new(|request| (Duration::ZERO, if request < 7 { answer_with(500, "") } else { good() })));
    let _loops = Loops::start(1, 16, &upstream);
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!(upstream.gaps()[1..9], [60, 60, 120, 180, 180, 180, 60, 60]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_counted_and_the_account_goes_on() {
    let upstream = Arc::new(Fake::new(|request| {
        assert_ne!(request, 1, "provoked");
        (INSTANTLY, good())
    }));
    let loops = Loops::start(1, 16, &upstream);
    tokio::time::sleep(MINUTE + Duration::from_secs(2)).await;
    assert_eq!(loops.value("koodrive_up"), 0.0);
    let counted = "\nkoodrive_poll_failures_total{account=\"account-0000\",reason=\"internal\"} 1\n";
    assert!(loops.exposition().contains(counted));
    tokio::time::sleep(MINUTE).await;
    assert_eq!((loops.value("koodrive_up"), loops.value("koodrive_polls_total")), (1.0, 3.0));
}

#[tokio::test(start_paused = true)]
async fn accounts_that_hang_do_not_delay_the_others_from_the_first_minute_on() {
    let hanging = Arc::new(Fake::new(|_| (MINUTE / 6, unanswered())));
    let well = Fake::taking(Duration::from_millis(50));
    let start = Instant::now();
    let loops = Loops::each(1000, 256, MINUTE, |index| Arc::clone(if index % 2 == 0 { &hanging } else { &well }));
    tokio::time::sleep(11 * MINUTE).await;
    for (index, slot) in loops.store.entries().iter().enumerate().filter(|(index, _)| index % 2 == 1) {
        let state = slot.state();
        let latest = state.latest.as_ref().unwrap();
        assert!(latest.began.monotonic.elapsed() <= MINUTE + Duration::from_secs(1), "account {index} is late");
        assert!(state.up() && state.polls >= 10, "account {index}: {} polls", state.polls);
    }
    let late = well.began().iter().filter(|began| (**began - start) < MINUTE).count();
    assert!(late >= 490, "{late} of 500 in the first minute");
    assert!(hanging.most_in_flight() <= 256 && well.most_in_flight() <= 256);
    assert!(loops.store.alive());
    let beaten = loops.store.entries().iter().step_by(2).filter(|slot| !slot.state().up()).count();
    assert_eq!(beaten, 500, "those that hang are reported as such");
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_of_the_whole_process_each_account_waits_for_its_next_tick() {
    let upstream = Fake::taking(INSTANTLY);
    let loops = Loops::start(600, 1000, &upstream);
    tokio::time::sleep(2 * MINUTE).await;
    let before = upstream.began().len();
    tokio::time::advance(10 * MINUTE).await;
    let resumed = Instant::now();
    tokio::time::sleep(MINUTE).await;
    let after: Vec<u64> = upstream.began()[before..].iter().map(|began| (*began - resumed).as_secs()).collect();
    assert_eq!(after.len(), 600, "each once");
    for second in 0..60 {
        let polls = after.iter().filter(|began| **began == second).count();
        assert!(polls <= 25, "{polls} polls in second {second} after the pause");
    }
    assert!(loops.store.alive());
}

#[tokio::test(start_paused = true)]
async fn a_sleep_that_only_the_wall_clock_shows_makes_values_stale() {
    let loops = Loops::start(1, 16, &Fake::taking(INSTANTLY));
    tokio::time::sleep(Duration::from_secs(5)).await;
    loops.clock_step.store(3600, Ordering::SeqCst);
    assert!(!loops.exposition().contains("koodrive_space_"), "they are an hour old");
    tokio::time::sleep(MINUTE).await;
    assert!(loops.exposition().contains("koodrive_space_used_bytes"));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_set_back_gives_no_negative_age_and_hides_no_real_one() {
    let upstream = Arc::new(Fake::new(|request| (INSTANTLY, if request == 0 { good() } else { answer_with(500, "") })));
    let loops = Loops::start(1, 16, &upstream);
    tokio::time::sleep(Duration::from_secs(5)).await;
    loops.clock_step.store(-7200, Ordering::SeqCst);
    tokio::time::sleep(2 * MINUTE).await;
    let now = koodrive_exporter::clock::unix_seconds(loops.wall());
    let age = now - loops.value("koodrive_poll_last_success_timestamp_seconds");
    assert!((120.0..=126.0).contains(&age), "{age}");
    let age = now - loops.value("koodrive_poll_last_attempt_timestamp_seconds");
    assert!((0.0..=66.0).contains(&age), "{age}");
    assert!(loops.exposition().contains("koodrive_space_used_bytes"), "2 minutes old, shown for 3");
    tokio::time::sleep(MINUTE).await;
    assert!(!loops.exposition().contains("koodrive_space_used_bytes"), "3 minutes old, whatever the clock shows");
}

#[tokio::test(start_paused = true)]
async fn rotations_and_unreadable_secrets_are_counted() {
    let upstream = Arc::new(Fake::new(|request| {
        let credential = if request % 2 == 1 { CredentialRead::Rotated } else { CredentialRead::Failed };
        (INSTANTLY, Exchange { credential, ..good() })
    }));
    let loops = Loops::start(1, 16, &upstream);
    tokio::time::sleep(4 * MINUTE + Duration::from_secs(2)).await;
    assert_eq!(loops.value("koodrive_credential_rotations_total"), 2.0);
    assert_eq!(loops.value("koodrive_credential_read_failures_total"), 3.0);
}
