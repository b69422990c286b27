//! How pages are shared, and what they leave behind.

use std::sync::atomic::AtomicU64;

use http_body_util::BodyExt;
use hyper::body::Body;
use proptest::prelude::*;

use super::*;
use crate::{
    body::SharedBody,
    encoder::{Encoder, Format, Kind},
    output::Coding,
};

fn content(piece: Vec<u8>) -> Content {
    Content { pieces: vec![piece.into()], families: Vec::new(), valid_until: None }
}

/// A page of one piece of this length, and how often it was made.
fn page(pages: &PageMaker, length: usize) -> (Page, Arc<AtomicU64>) {
    let made = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&made);
    let page = pages.page(move || {
        count.fetch_add(1, Ordering::SeqCst);
        content(vec![b'x'; length])
    });
    (page, made)
}

/// A maker of pages that change whenever the counter does.
fn maker() -> (PageMaker, Arc<AtomicU64>) {
    let changes = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&changes);
    (PageMaker::start(move || counter.load(Ordering::SeqCst)).unwrap(), changes)
}

/// Keeps the thread busy until it is dropped.
fn busy(maker: &PageMaker) -> std::sync::mpsc::Sender<()> {
    let (until, dropped) = std::sync::mpsc::channel();
    let dropped = Mutex::new(dropped);
    let page = maker.page(move || {
        let _ = dropped.lock().unwrap().recv();
        content(Vec::new())
    });
    // A page that nobody waits for is not made.
    let (waiting, made) = oneshot::channel();
    lock(&page.state.requests).waiting.push(waiting);
    std::mem::forget(made);
    page.queue.send(page.state).unwrap();
    until
}

async fn answer(page: &Page) -> SharedBody {
    page.version().await.unwrap().into()
}

/// The answers to 20 requests, each of which comes so long before a change.
async fn hold(page: &Page, changes: &AtomicU64, time: Duration) -> Vec<SharedBody> {
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(answer(page).await);
        changes.fetch_add(1, Ordering::SeqCst);
        tokio::time::advance(time).await;
    }
    held
}

fn is_alive(body: &mut SharedBody) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Some(frame)) = std::pin::Pin::new(body).poll_frame(&mut context) else {
        panic!("a body is always ready")
    };
    frame.is_ok()
}

#[tokio::test]
async fn requests_that_went_away_leave_at_most_one_page_to_make() {
    let (maker, _) = maker();
    let (page, made) = page(&maker, 7);
    let busy = busy(&maker);
    for _ in 0..3000 {
        let asking = tokio::spawn({
            let page = page.clone();
            async move { page.version().await.is_some() }
        });
        tokio::task::yield_now().await;
        asking.abort();
    }
    assert!(lock(&page.state.requests).waiting.len() < 10);
    drop(busy);
    answer(&page).await;
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_share_a_page_until_something_changes() {
    let (maker, changes) = maker();
    let (page, made) = page(&maker, 7);
    for change in 1..=3 {
        for _ in 0..5 {
            answer(&page).await;
        }
        assert_eq!(made.load(Ordering::SeqCst), change);
        changes.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn request_that_arrives_while_a_page_is_made_gets_that_page() {
    let (maker, _) = maker();
    let made = Arc::new(AtomicU64::new(0));
    let (count, (begun, begins)) = (Arc::clone(&made), sync_channel(2));
    let (go, gate) = sync_channel::<()>(2);
    let gate = Mutex::new(gate);
    let page = maker.page(move || {
        count.fetch_add(1, Ordering::SeqCst);
        begun.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        content(Vec::new())
    });
    let ask = || {
        let page = page.clone();
        tokio::spawn(async move { page.version().await.is_some() })
    };
    let first = ask();
    tokio::task::yield_now().await;
    begins.recv().unwrap();
    let second = ask();
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    assert!(first.await.unwrap() && second.await.unwrap());
    go.send(()).unwrap();
    // The thread has taken the second request out of the queue once it answers for another page.
    let (other, _) = self::page(&maker, 7);
    answer(&other).await;
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn page_that_takes_longer_than_it_is_valid_is_answered() {
    let (maker, _) = maker();
    let page = maker.page(|| {
        let outdated = Instant::now();
        Content { valid_until: Some(outdated), ..content(vec![b'x']) }
    });
    assert_eq!(answer(&page).await.size_hint().exact(), Some(1));
}

#[tokio::test]
async fn page_that_panics_fails_its_request_and_no_other() {
    let (maker, _) = maker();
    let bad = maker.page(|| panic!("provoked"));
    assert!(bad.version().await.is_none());
    let (good, _) = page(&maker, 7);
    assert!(good.version().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn clients_that_hold_old_versions_share_the_latest_where_memory_is_full() {
    let (maker, changes) = maker();
    let (page, made) = page(&maker, MAX_BYTES / 8);
    let mut held = hold(&page, &changes, Duration::ZERO).await;
    assert_eq!(made.load(Ordering::SeqCst), 10, "ten fit");
    assert!(held.iter_mut().all(is_alive));
}

#[tokio::test(start_paused = true)]
async fn clients_that_hold_old_versions_cannot_hold_more_than_the_limit() {
    let (maker, changes) = maker();
    let (page, _) = page(&maker, MAX_BYTES / 8);
    let mut held = hold(&page, &changes, MAX_LAG).await;
    answer(&page).await;
    let alive: Vec<bool> = held.iter_mut().map(is_alive).collect();
    assert_eq!(alive.iter().filter(|alive| **alive).count(), 9, "with the newest one, ten fit");
    assert!(alive[11..].iter().all(|alive| *alive), "the oldest ones ended");
}

#[tokio::test(start_paused = true)]
async fn clients_that_take_nothing_end_no_answer_of_one_that_takes_its_time() {
    let (maker, changes) = maker();
    let (page, _) = page(&maker, MAX_BYTES);
    let slow = page.version().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..20 {
        changes.fetch_add(1, Ordering::SeqCst);
        held.push(answer(&page).await);
        tokio::time::advance(MAX_LAG).await;
        slow.piece(0).unwrap();
    }
    assert!(held.iter_mut().map(is_alive).filter(|alive| *alive).count() <= 2);
}

#[tokio::test(start_paused = true)]
async fn version_that_a_request_has_just_got_outlasts_those_that_clients_take() {
    let (maker, changes) = maker();
    let (page, _) = page(&maker, MAX_BYTES);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(page.version().await.unwrap());
        changes.fetch_add(1, Ordering::SeqCst);
    }
    page.version().await.unwrap();
    tokio::time::advance(MAX_LAG / 2).await;
    for version in &held {
        version.piece(0).unwrap();
    }
    tokio::time::advance(MAX_LAG / 4).await;
    let got = page.version().await.unwrap();
    changes.fetch_add(1, Ordering::SeqCst);
    tokio::time::advance(MAX_LAG).await;
    page.version().await.unwrap();
    assert!(got.piece(0).is_ok());
}

#[tokio::test]
async fn pages_that_requests_wait_for_keep_no_outdated_versions() {
    let (maker, changes) = maker();
    let (page, _) = page(&maker, 7);
    let outdated = Arc::downgrade(&page.version().await.unwrap());
    changes.fetch_add(1, Ordering::SeqCst);
    let (begun, begins) = sync_channel(1);
    let (until, gate) = sync_channel::<()>(1);
    let gate = Mutex::new(gate);
    let other = maker.page(move || {
        begun.send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
        content(Vec::new())
    });
    let others = tokio::spawn(async move { other.version().await.is_some() });
    tokio::task::yield_now().await;
    let waiting = tokio::spawn(async move { page.version().await.is_some() });
    tokio::task::yield_now().await;
    begins.recv().unwrap();
    assert_eq!(outdated.strong_count(), 0);
    until.send(()).unwrap();
    assert!(others.await.unwrap() && waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn page_that_nobody_asks_for_any_more_is_forgotten() {
    let (maker, _) = maker();
    let (page, _) = page(&maker, 7);
    let version = {
        answer(&page).await;
        Arc::downgrade(&lock(&page.state.requests).latest.as_ref().unwrap().version)
    };
    tokio::time::advance(MAX_LAG * 2).await;
    while version.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn small_part_of_a_version_that_has_ended_is_an_error_and_not_empty() {
    let version = Arc::new(Version::new(exposition(Format::Text0, &[1], |_| true)));
    let places = version.places_of(|_| true);
    lock(&version.memory).pieces.take();
    assert!(SharedBody::of(version, places).collect().await.is_err());
}

/// Families `m0`, `m1_total` and so on, each with so many samples; those alone that are wanted.
fn exposition(format: Format, samples: &[usize], is_wanted: impl Fn(&str) -> bool) -> Content {
    let mut encoder = Encoder::new(format, Coding::Identity);
    for (index, samples) in samples.iter().enumerate() {
        let (name, kind) = match index % 2 {
            0 => (format!("m{index}"), Kind::Gauge),
            _ => (format!("m{index}_total"), Kind::Counter),
        };
        let mut family = encoder.family(&name, kind, "help");
        for sample in (0..*samples).filter(|_| is_wanted(&name)) {
            family.sample("", b"", [("sample", &*sample.to_string())], 1.0);
        }
    }
    encoder.into_content()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn parts_of_a_page_are_the_page_of_these_families_alone(
        samples in proptest::collection::vec(0..2000_usize, 0..6),
        wanted: u8,
        open_metrics: bool,
    ) {
        let format = if open_metrics { Format::OpenMetrics } else { Format::Text0 };
        let is_wanted = |name: &str| wanted & (1 << name[1..2].parse::<u8>().unwrap()) != 0;
        let version = Arc::new(Version::new(exposition(format, &samples, |_| true)));
        let body = SharedBody::of(Arc::clone(&version), version.places_of(is_wanted));
        let length = body.size_hint().exact();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(body.collect()).unwrap().to_bytes();
        prop_assert!(bytes == exposition(format, &samples, is_wanted).pieces.concat());
        prop_assert_eq!(length, Some(bytes.len() as u64));
    }
}
