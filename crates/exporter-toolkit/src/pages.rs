//! Pages that many requests share: each is made at most once at a time, by one thread, for all that ask for it.
//!
//! A request never makes a page itself. It asks the thread for it and waits for the result; one that goes away cancels
//! nothing and leaves nothing behind. One thread bounds what pages cost to one core, and keeps their memory in one heap.
//! It is none of the runtime's threads, which thousands of accounts would hold up for some milliseconds, nor one of its
//! pool for blocking work, which files that hang can exhaust.

use std::{
    io, mem,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use crate::{
    lock,
    output::{Content, release_unused},
};

/// How far a page may lag behind in what changes without being counted, such as the exporter's own metrics.
pub(crate) const MAX_LAG: Duration = Duration::from_secs(1);

/// How often versions are looked for that no request will get any more, and memory that nobody uses.
const CLEANUP_INTERVAL: Duration = Duration::from_millis(100);

/// Pages that exist at once. Each is in the queue at most once, so that it never blocks.
const MAX_PAGES: usize = 16;

/// Memory of all pages that slow clients still take, beyond two of the largest page: the latest and the one that is made.
/// Where it is full, requests get the latest version of a page until that is [`MAX_LAG`] old. Then those versions end of
/// which nobody has taken anything for the longest time, and with them their answers.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The bytes of one version of a page, which end when their memory is needed.
#[derive(Debug)]
pub(crate) struct Version {
    memory: Mutex<Memory>,
    families: Vec<(String, usize)>,
    pub(crate) length: usize,
}

#[derive(Debug)]
struct Memory {
    /// None once the version has ended.
    pieces: Option<Vec<Bytes>>,
    /// When a request last got the version, or a client a piece of it.
    taken: Instant,
}

impl Version {
    fn new(content: Content) -> Self {
        let Content { pieces, families, .. } = content;
        let length = pieces.iter().map(Bytes::len).sum();
        Self { memory: Mutex::new(Memory { pieces: Some(pieces), taken: Instant::now() }), families, length }
    }

    /// One of its pieces; `None` behind the last one.
    ///
    /// # Errors
    /// When the version has ended.
    pub(crate) fn piece(&self, index: usize) -> io::Result<Option<Bytes>> {
        let ended = || io::Error::other("the client took too long, and newer pages needed the memory");
        let mut memory = lock(&self.memory);
        memory.taken = Instant::now();
        Ok(memory.pieces.as_ref().ok_or_else(ended)?.get(index).cloned())
    }

    /// The places of the wanted families of an exposition, in order; what belongs to none is always wanted.
    pub(crate) fn places_of(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
        let ends = self.families.iter().skip(1).map(|(_, begin)| *begin).chain([self.length]);
        let wanted = self.families.iter().zip(ends).filter(|((name, _), _)| name.is_empty() || is_wanted(name));
        let mut places: Vec<Range<usize>> = Vec::new();
        for ((_, begin), end) in wanted {
            match places.last_mut() {
                Some(neighbour) if neighbour.end == *begin => neighbour.end = end,
                _ => places.push(*begin..end),
            }
        }
        places
    }

    /// It is given to a request now, which takes none of it yet.
    fn give(self: &Arc<Self>, now: Instant) -> Arc<Self> {
        lock(&self.memory).taken = now;
        Arc::clone(self)
    }
}

/// The latest version of a page.
struct Latest {
    version: Arc<Version>,
    began: Instant,
    /// What had changed then.
    changes: u64,
    valid_until: Instant,
}

impl Latest {
    /// Whether it shows all that has changed up to now.
    fn is_current(&self, changes: u64, now: Instant) -> bool {
        self.changes >= changes && now < self.valid_until
    }

    /// Whether it will do where there is no memory for another one.
    fn is_young(&self, now: Instant) -> bool {
        now.duration_since(self.began) < MAX_LAG
    }
}

type Changes = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Where a request waits for its version. It gets none where making it panicked, which is a bug.
type Waiting = oneshot::Sender<Option<Arc<Version>>>;

struct PageState {
    make: Box<dyn Fn() -> Content + Send + Sync>,
    /// How long it was when it was last made.
    length: AtomicUsize,
    requests: Mutex<Requests>,
}

#[derive(Default)]
struct Requests {
    /// For those that arrive.
    latest: Option<Latest>,
    /// Those that have arrived. While there is any, the page is in the queue.
    waiting: Vec<Waiting>,
}

impl PageState {
    /// The latest version, for a request, if it will do now.
    fn latest(&self, will_do: impl Fn(&Latest, Instant) -> bool) -> Option<Arc<Version>> {
        let (requests, now) = (lock(&self.requests), Instant::now());
        Some(requests.latest.as_ref().filter(|latest| will_do(latest, now))?.version.give(now))
    }
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

    /// A page that `make` makes. At most [`MAX_PAGES`] of them.
    pub(crate) fn page(&self, make: impl Fn() -> Content + Send + Sync + 'static) -> Page {
        let state = PageState { make: Box::new(make), length: AtomicUsize::new(0), requests: Mutex::default() };
        Page { state: Arc::new(state), changes: Arc::clone(&self.changes), queue: self.queue.clone() }
    }
}

impl Page {
    /// The page for a request that arrives now: it shows every change that was counted before, or where memory is full, all
    /// but those of the last second. `None` where making it panicked, which is a bug.
    pub(crate) async fn version(&self) -> Option<Arc<Version>> {
        let changes = (self.changes)();
        if let Some(latest) = self.state.latest(|latest, now| latest.is_current(changes, now)) {
            return Some(latest);
        }
        let made = {
            let mut requests = lock(&self.state.requests);
            if requests.waiting.is_empty() {
                self.queue.try_send(Arc::clone(&self.state)).ok()?;
            }
            if requests.waiting.len() == requests.waiting.capacity() {
                requests.waiting.retain(|request| !request.is_closed());
            }
            let (waiting, made) = oneshot::channel();
            requests.waiting.push(waiting);
            made
        };
        made.await.ok().flatten()
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
                Ok(page) => self.make(&page),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Drops versions that no request will get any more, unless a client has them anyway.
    fn drop_outdated(&mut self) {
        let (changes, now) = ((self.changes)(), Instant::now());
        self.kept.retain(|page| {
            let latest = &mut lock(&page.requests).latest;
            let is_held = |latest: &Latest| Arc::strong_count(&latest.version) > 1 && latest.is_young(now);
            latest.take_if(|latest| !latest.is_current(changes, now) && !is_held(latest));
            latest.is_some()
        });
    }

    fn make(&mut self, page: &Arc<PageState>) {
        // A request that arrives from here on puts it into the queue again.
        let mut waiting = mem::take(&mut lock(&page.requests).waiting);
        waiting.retain(|request| !request.is_closed());
        if waiting.is_empty() {
            return;
        }
        let (began, changes) = (Instant::now(), (self.changes)());
        let length = page.length.load(Ordering::Relaxed);
        // Those that arrived while the latest one was made may have it, too.
        let latest = page.latest(|latest, now| latest.is_current(changes, now));
        let excess = self.excess(length);
        let young = || if excess > 0 { page.latest(Latest::is_young) } else { None };
        let version = latest.or_else(young).or_else(|| {
            self.free(excess);
            let content = catch_unwind(AssertUnwindSafe(|| (page.make)())).ok()?;
            let lagging = began + MAX_LAG;
            let valid_until = content.valid_until.map_or(lagging, |until| until.min(lagging));
            let version = Arc::new(Version::new(content));
            page.length.store(version.length, Ordering::Relaxed);
            self.alive.push(Arc::downgrade(&version));
            lock(&page.requests).latest = Some(Latest { version: Arc::clone(&version), began, changes, valid_until });
            if !self.kept.iter().any(|kept| Arc::ptr_eq(kept, page)) {
                self.kept.push(Arc::clone(page));
            }
            Some(version)
        });
        let now = Instant::now();
        for request in waiting {
            // One that went away meanwhile needs none.
            let _ = request.send(version.as_ref().map(|version| version.give(now)));
        }
    }

    /// By how many bytes a new version of this length would exceed the limit, beside all that are alive.
    fn excess(&self, new: usize) -> usize {
        let versions = self.alive.iter().filter_map(Weak::upgrade);
        let lengths: Vec<_> = versions.map(|version| version.length).chain([new]).collect();
        let largest = lengths.iter().max().copied().unwrap_or_default();
        lengths.iter().sum::<usize>().saturating_sub(MAX_BYTES + 2 * largest)
    }

    /// Ends versions until they have had so many bytes: first those of which no client has taken anything for the longest
    /// time.
    fn free(&mut self, mut excess: usize) {
        let mut oldest_first: Vec<_> = self.alive.iter().filter_map(Weak::upgrade).collect();
        oldest_first.sort_by_cached_key(|version| lock(&version.memory).taken);
        for version in oldest_first {
            if excess == 0 {
                break;
            }
            for page in &self.kept {
                lock(&page.requests).latest.take_if(|latest| Arc::ptr_eq(&latest.version, &version));
            }
            lock(&version.memory).pieces.take();
            excess = excess.saturating_sub(version.length);
        }
        let is_alive = |version: &Weak<Version>| version.upgrade().is_some_and(|it| lock(&it.memory).pieces.is_some());
        self.alive.retain(is_alive);
    }
}

#[cfg(test)]
mod tests;
