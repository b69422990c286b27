//! How pages are shared, and what they leave behind.

use std::sync::atomic::AtomicU64;

use hyper::body::Body;

use super::*;

/// A page of one piece of this length, and how often it was made.
fn page(pages: &PageMaker, length: usize) -> (Page, Arc<AtomicU64>) {
    let made = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&made);
    let content = move || {
        count.fetch_add(1, Ordering::SeqCst);
        Content { pieces: vec![vec![b'x'; length].into()], valid_until: None }
    };
    (pages.page(content), made)
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
        Content { pieces: Vec::new(), valid_until: None }
    });
    // A page that nobody waits for is not made.
    std::mem::forget(page.state.latest.subscribe());
    page.queue.send(page.state).unwrap();
    until
}

async fn answer(page: &Page) -> SharedBody {
    page.body().await.unwrap()
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
            async move { page.body().await.is_some() }
        });
        tokio::task::yield_now().await;
        asking.abort();
    }
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

#[tokio::test]
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
        Content { pieces: Vec::new(), valid_until: None }
    });
    let ask = || {
        let page = page.clone();
        tokio::spawn(async move { page.body().await.is_some() })
    };
    // One of many that takes its time.
    let _slow = page.state.latest.subscribe();
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
        Content { pieces: vec![Bytes::from_static(b"x")], valid_until: Some(outdated) }
    });
    assert_eq!(answer(&page).await.size_hint().exact(), Some(1));
}

#[tokio::test]
async fn page_that_panics_fails_its_request_and_no_other() {
    let (maker, _) = maker();
    let bad = maker.page(|| panic!("provoked"));
    assert!(bad.body().await.is_none());
    let (good, _) = page(&maker, 7);
    assert!(good.body().await.is_some());
}

#[tokio::test]
async fn clients_that_hold_old_versions_cannot_hold_more_than_the_limit() {
    let (maker, changes) = maker();
    let (page, _) = page(&maker, MAX_BYTES / 8);
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(answer(&page).await);
        changes.fetch_add(1, Ordering::SeqCst);
    }
    answer(&page).await;
    let alive: Vec<bool> = held.iter_mut().map(is_alive).collect();
    assert_eq!(alive.iter().filter(|alive| **alive).count(), 9, "with the newest one, ten fit");
    assert!(alive[11..].iter().all(|alive| *alive), "the oldest ones ended");
}

#[tokio::test]
async fn clients_that_hold_large_versions_end_no_small_ones() {
    let (maker, changes) = maker();
    let (large, _) = page(&maker, MAX_BYTES);
    let (small, _) = page(&maker, MAX_BYTES / 1024);
    let mut first = answer(&small).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        changes.fetch_add(1, Ordering::SeqCst);
        held.push(answer(&large).await);
    }
    assert!(is_alive(&mut first));
    assert!(held.iter_mut().map(is_alive).filter(|alive| *alive).count() <= 3);
}

#[tokio::test(start_paused = true)]
async fn page_that_nobody_asks_for_any_more_is_forgotten() {
    let (maker, _) = maker();
    let (page, _) = page(&maker, 7);
    let version = {
        answer(&page).await;
        let Latest::Made { version, .. } = &*page.state.latest.borrow() else { panic!("it was made") };
        Arc::downgrade(version)
    };
    tokio::time::advance(MAX_LAG * 2).await;
    while version.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
}
