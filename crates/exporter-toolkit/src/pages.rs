//! Pages that many requests share: each is made at most once at a time, by one thread, for all that ask for it.
//!
//! A request never makes a page itself. It asks the thread for it and waits for the result; one that goes away cancels
//! nothing and leaves nothing behind. One thread bounds what pages cost to one core, and keeps their memory in one heap.
//! It is none of the runtime's threads, which thousands of accounts would hold up for some milliseconds, nor one of its
//! pool for blocking work, which files that hang can exhaust.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::watch, time::Instant};

use crate::body::SharedBody;

/// How far a page may lag behind in what changes without being counted, such as the exporter's own metrics.
pub(crate) const MAX_LAG: Duration = Duration::from_secs(1);

/// How often versions are looked for that no request will get any more.
const CLEANUP_INTERVAL: Duration = Duration::from_millis(100);

/// Pages that exist at once. Each is in the queue at most once, so that it never blocks.
const MAX_PAGES: usize = 16;

/// Memory of all pages that slow clients still take, beyond two of the largest page: the latest and the one that is made.
/// Where it is full, outdated ones end, and with them the answers that are sent from them.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What a page shows at a moment.
pub(crate) struct Content {
    pub(crate) pieces: Vec<Bytes>,
    /// Something that the page shows will have changed by then, though nothing counts it.
    pub(crate) valid_until: Option<Instant>,
}

/// The bytes of one version of a page, which end when their memory is needed.
#[derive(Debug)]
pub(crate) struct Version {
    pieces: Mutex<Option<Vec<Bytes>>>,
    pub(crate) length: usize,
}

impl Version {
    fn new(pieces: Vec<Bytes>) -> Self {
        Self { length: pieces.iter().map(Bytes::len).sum(), pieces: Mutex::new(Some(pieces)) }
    }

    /// One of its pieces; `None` behind the last one.
    ///
    /// # Errors
    /// When the version has ended.
    pub(crate) fn piece(&self, index: usize) -> io::Result<Option<Bytes>> {
        let ended = || io::Error::other("the client took too long, and newer pages needed the memory");
        Ok(self.pieces().as_ref().ok_or_else(ended)?.get(index).cloned())
    }

    fn pieces(&self) -> MutexGuard<'_, Option<Vec<Bytes>>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The latest result of making a page.
#[derive(Clone)]
enum Latest {
    /// There is none, or it was too old to be kept.
    None,
    /// Making it panicked, which is a bug.
    Panicked,
    Made {
        version: Arc<Version>,
        began: Instant,
        changes: u64,
        valid_until: Instant,
    },
}

impl Latest {
    /// The version, if a request that arrived then should get it: all that was known on its arrival is shown.
    fn for_request(&self, arrived: Instant, changes: u64) -> Option<&Arc<Version>> {
        match self {
            Self::Made { version, began, changes: shown, valid_until, .. }
                if *began >= arrived || (*shown >= changes && Instant::now() < *valid_until) =>
            {
                Some(version)
            }
            _ => None,
        }
    }

    /// Drops a version that no request will get any more.
    fn drop_outdated(&mut self, now_changes: u64) -> bool {
        let now = Instant::now();
        let outdated = match self {
            Self::Made { changes, valid_until, .. } => *changes < now_changes || *valid_until <= now,
            Self::None | Self::Panicked => false,
        };
        if outdated {
            *self = Self::None;
        }
        outdated
    }
}

type Changes = Arc<dyn Fn() -> u64 + Send + Sync>;

struct PageState {
    make: Box<dyn Fn() -> Content + Send + Sync>,
    /// Whether further requests may get it, too.
    is_shared: bool,
    /// How long it was when it was last made.
    length: AtomicUsize,
    latest: watch::Sender<Latest>,
    queued: AtomicBool,
}

/// One page.
#[derive(Clone)]
pub(crate) struct Page {
    state: Arc<PageState>,
    changes: Changes,
    queue: SyncSender<Arc<PageState>>,
}

/// Makes pages, on a thread that ends with the last of them.
pub(crate) struct PageMaker {
    changes: Changes,
    queue: SyncSender<Arc<PageState>>,
}

impl PageMaker {
    /// Starts the thread. `changes` counts the changes of what pages show.
    ///
    /// # Errors
    /// When the system has no thread.
    pub(crate) fn start(changes: impl Fn() -> u64 + Send + Sync + 'static) -> io::Result<Self> {
        let changes: Changes = Arc::new(changes);
        let (queue, queued) = sync_channel(MAX_PAGES);
        let worker = Worker { changes: Arc::clone(&changes), alive: Vec::new(), kept: Vec::new() };
        let runtime = Handle::current();
        thread::Builder::new().name("pages".to_owned()).spawn(move || {
            let _time = runtime.enter();
            worker.run(&queued);
        })?;
        Ok(Self { changes, queue })
    }

    /// A page that `make` makes.
    pub(crate) fn page(&self, make: impl Fn() -> Content + Send + Sync + 'static) -> Page {
        self.page_for(true, make)
    }

    /// A page for one request, which nobody else gets. Where there are more than a few of them, the queue is full.
    pub(crate) fn own_page(&self, make: impl Fn() -> Content + Send + Sync + 'static) -> Page {
        self.page_for(false, make)
    }

    fn page_for(&self, is_shared: bool, make: impl Fn() -> Content + Send + Sync + 'static) -> Page {
        let state = Arc::new(PageState {
            make: Box::new(make),
            is_shared,
            length: AtomicUsize::new(0),
            latest: watch::Sender::new(Latest::None),
            queued: AtomicBool::new(false),
        });
        Page { state, changes: Arc::clone(&self.changes), queue: self.queue.clone() }
    }
}

impl Page {
    /// The page for a request that arrives now: it shows every change that was counted before. `None` where making it
    /// panicked, which is a bug.
    pub(crate) async fn body(&self) -> Option<SharedBody> {
        let (arrived, changes) = (Instant::now(), (self.changes)());
        let mut latest = self.state.latest.subscribe();
        if let Some(version) = latest.borrow_and_update().for_request(arrived, changes) {
            return Some(Arc::clone(version).into());
        }
        loop {
            if !self.state.queued.swap(true, Ordering::AcqRel) {
                self.queue.try_send(Arc::clone(&self.state)).ok()?;
            }
            latest.changed().await.ok()?;
            let now = latest.borrow_and_update();
            if let Some(version) = now.for_request(arrived, changes) {
                return Some(Arc::clone(version).into());
            }
            if matches!(*now, Latest::Panicked) {
                return None;
            }
        }
    }
}

/// The thread's side.
struct Worker {
    changes: Changes,
    /// All versions that may still be in memory, the oldest first.
    alive: Vec<Weak<Version>>,
    /// Pages whose latest version is kept.
    kept: Vec<Arc<PageState>>,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Arc<PageState>>) {
        loop {
            let wait = if self.kept.is_empty() { Duration::MAX } else { CLEANUP_INTERVAL };
            let next = queue.recv_timeout(wait);
            self.drop_outdated();
            match next {
                Ok(page) => self.make(page),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn drop_outdated(&mut self) {
        let changes = (self.changes)();
        self.kept.retain(|page| {
            let has_waiting_requests = page.latest.receiver_count() > 0;
            has_waiting_requests || !page.latest.send_if_modified(|latest| latest.drop_outdated(changes))
        });
    }

    fn make(&mut self, page: Arc<PageState>) {
        // Whoever asks from here on puts it into the queue again, and so does whoever came while the latest one was made;
        // where that one will do for them, it is not made twice.
        page.queued.store(false, Ordering::Release);
        let (began, changes) = (Instant::now(), (self.changes)());
        let latest_will_do = page.latest.borrow().for_request(began, changes).is_some();
        if latest_will_do || page.latest.receiver_count() == 0 {
            return;
        }
        self.limit_memory(page.length.load(Ordering::Relaxed));
        let latest = match catch_unwind(AssertUnwindSafe(|| (page.make)())) {
            Err(_) => Latest::Panicked,
            Ok(Content { pieces, valid_until }) => {
                let lagging = began + MAX_LAG;
                let valid_until = valid_until.map_or(lagging, |until| until.min(lagging));
                let version = Arc::new(Version::new(pieces));
                page.length.store(version.length, Ordering::Relaxed);
                self.alive.push(Arc::downgrade(&version));
                Latest::Made { version, began, changes, valid_until }
            }
        };
        page.latest.send_replace(latest);
        if page.is_shared && !self.kept.iter().any(|kept| Arc::ptr_eq(kept, &page)) {
            self.kept.push(page);
        }
    }

    /// Ends outdated versions until a new one of this length fits beside all that are left: the oldest of the largest
    /// first, so that clients that stall with large pages do not end the small ones of others.
    fn limit_memory(&mut self, new: usize) {
        let versions: Vec<_> = self.alive.iter().filter_map(Weak::upgrade).collect();
        let lengths = || versions.iter().map(|version| version.length).chain([new]);
        let (mut bytes, largest) = (lengths().sum::<usize>(), lengths().max().unwrap_or_default());
        let limit = MAX_BYTES + 2 * largest;
        let mut outdated: Vec<_> = versions.iter().filter(|version| !self.is_current(version)).collect();
        outdated.sort_by_key(|version| version.length.leading_zeros());
        for version in outdated {
            if bytes <= limit {
                break;
            }
            version.pieces().take();
            bytes -= version.length;
        }
        self.alive = versions.iter().filter(|version| version.pieces().is_some()).map(Arc::downgrade).collect();
    }

    fn is_current(&self, version: &Arc<Version>) -> bool {
        let is_of = |page: &Arc<PageState>| match &*page.latest.borrow() {
            Latest::Made { version: current, .. } => Arc::ptr_eq(current, version),
            Latest::None | Latest::Panicked => false,
        };
        self.kept.iter().any(is_of)
    }
}

#[cfg(test)]
mod tests {
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
}
