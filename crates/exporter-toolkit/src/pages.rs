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

use crate::{body::SharedBody, output::release_unused};

/// How far a page may lag behind in what changes without being counted, such as the exporter's own metrics.
pub(crate) const MAX_LAG: Duration = Duration::from_secs(1);

/// How often versions are looked for that no request will get any more, and memory that nobody uses.
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
            let is_clean = !release_unused() && self.kept.is_empty();
            let next = queue.recv_timeout(if is_clean { Duration::MAX } else { CLEANUP_INTERVAL });
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
mod tests;
