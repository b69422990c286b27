//! Small files that may change, or be put in each other's place, at any time: read, replaced and followed as a whole.

use std::{
    fs::{OpenOptions, Permissions},
    io::{Error, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::libc::O_NONBLOCK;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Interval, MissedTickBehavior, interval, timeout},
};

/// More than any configuration, with tens of thousands of accounts, and than any certificate.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// As many links are followed (`ELOOP` of Linux).
const MAX_LINKS: usize = 40;

/// How often followed files are read again: no time stamp shows every change (a secret mounted by Kubernetes changes
/// by a link), and they are a few kilobytes.
const READ_INTERVAL: Duration = Duration::from_millis(500);

/// For as many looks a file may be missing, because it is about to be replaced.
const MAX_MISSES: u8 = 4;

/// A file on a network mount may never come.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What some editors begin a text with.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The whole of a regular file without a byte order mark. A pipe or a device is refused, not waited for.
///
/// # Errors
/// When it can't be read, is no regular file or longer than 16 MiB.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::other("is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::other(format!("is longer than {MAX_BYTES} bytes")));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

/// Writes a file that all may read beside its place and moves it there, so that nobody reads half of it. What a link leads to is
/// replaced or made, and not the link. A device, a pipe or an open file (`/dev/fd/3`) is written to as it is.
///
/// # Errors
/// When it can't be written there. Then nothing has changed.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let path = follow_links(path);
    if path.is_symlink() {
        // Links that lead to each other.
        std::fs::metadata(&path)?;
    }
    if is_in_proc(&path) || std::fs::metadata(&path).is_ok_and(|target| !target.is_file()) {
        return OpenOptions::new().append(true).open(path)?.write_all(content);
    }
    let mut file = tempfile::NamedTempFile::new_in(folder_of(&path))?;
    // Whatever the umask is.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

/// What links lead to, whether or not it exists. A link below `/proc` is an open file, and not followed.
fn follow_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match path.read_link() {
            Ok(target) if !is_in_proc(&path) => path = path.parent().unwrap_or(Path::new("")).join(target),
            _ => break,
        }
    }
    path
}

/// Whether the path leads below `/proc`, as `/dev/fd/3` does: `/dev/fd` is a link to `/proc/self/fd`.
fn is_in_proc(path: &Path) -> bool {
    folder_of(path).canonicalize().is_ok_and(|folder| folder.starts_with("/proc"))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What is read from files, again and again.
pub struct Followed<T> {
    read: Arc<dyn Fn() -> Option<T> + Send + Sync>,
    ticks: Interval,
    /// One at a time: where one hangs, another would as well.
    reading: Option<JoinHandle<Option<T>>>,
    /// A reading that hung, and whose end is awaited before another begins.
    late: Option<JoinHandle<Option<T>>>,
    /// What was read last: it may be half of what is being written.
    seen: Option<T>,
    /// What [`Self::changed`] returned last.
    reported: Option<Result<T, Unread>>,
    /// How often in a row nothing was read.
    misses: u8,
}

/// Why files were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is missing, no regular file, or too long.
    #[error("cannot be read")]
    Missing,
    /// A mount that is gone, mostly.
    #[error("cannot be read: the file system does not answer")]
    Hung,
    /// A bug.
    #[error("cannot be read: the reading panicked")]
    Panicked,
}

impl<T: Clone + PartialEq + Send + 'static> Followed<T> {
    /// Follows what `read` gives, of which `known` is known already. Where it gives nothing for a moment, a file is about
    /// to be replaced.
    pub fn new(known: Option<T>, read: impl Fn() -> Option<T> + Send + Sync + 'static) -> Self {
        let mut ticks = interval(READ_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reported = known.clone().map(Ok);
        Self { read: Arc::new(read), ticks, reading: None, late: None, seen: known, reported, misses: 0 }
    }

    /// What is known otherwise from now on, such as by a reload for another reason.
    pub fn set_known(&mut self, known: Option<T>) {
        self.reported = Some(known.ok_or(Unread::Missing));
    }

    /// Waits until something else has been read twice in a row. It can be given up and called again.
    ///
    /// # Errors
    /// When nothing can be read, once until something can.
    pub async fn changed(&mut self) -> Result<T, Unread> {
        loop {
            let settled = match self.next().await {
                Ok(read) if self.seen.as_ref() != Some(&read) => {
                    self.seen = Some(read);
                    continue;
                }
                settled => settled,
            };
            if self.reported.as_ref() != Some(&settled) {
                self.reported = Some(settled.clone());
                return settled;
            }
        }
    }

    /// What is read next. What comes too late does not count.
    async fn next(&mut self) -> Result<T, Unread> {
        loop {
            if let Some(late) = &mut self.late {
                let _ = late.await;
                self.late = None;
            }
            if self.reading.is_none() {
                self.ticks.tick().await;
            }
            let reading = self.reading.get_or_insert_with(|| {
                let read = Arc::clone(&self.read);
                spawn_blocking(move || read())
            });
            let Ok(read) = timeout(READ_TIMEOUT, reading).await else {
                self.late = self.reading.take();
                return Err(Unread::Hung);
            };
            self.reading = None;
            if let Some(read) = read.map_err(|_| Unread::Panicked).transpose() {
                self.misses = 0;
                return read;
            }
            self.misses = self.misses.saturating_add(1);
            if self.misses == MAX_MISSES {
                return Err(Unread::Missing);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Follows what these give one after the other, and then the last for ever.
    fn followed(known: u8, mut reads: Vec<Option<u8>>) -> Followed<u8> {
        reads.reverse();
        let reads = Mutex::new(reads);
        Followed::new(Some(known), move || {
            let mut reads = reads.lock().unwrap();
            if reads.len() > 1 { reads.pop().unwrap() } else { reads[0] }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_reported_once_it_was_read_twice_in_a_row() {
        let mut halves = followed(1, vec![Some(2), Some(3), Some(4), Some(4)]);
        assert_eq!(halves.changed().await, Ok(4));
        let mut gone = followed(1, vec![None, Some(1), Some(1), None, Some(2), None, Some(2)]);
        assert_eq!(gone.changed().await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_stays_away_is_reported_once_until_it_returns() {
        let mut gone = followed(1, vec![None, None, None, None, None, None, None, None, None, Some(1)]);
        assert_eq!(gone.changed().await, Err(Unread::Missing));
        assert_eq!(gone.changed().await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_as_it_is_is_not_reported() {
        let mut same = followed(1, vec![Some(2), Some(1), Some(2), Some(1)]);
        assert!(timeout(READ_INTERVAL * 100, same.changed()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_hangs_is_reported_once_until_it_answers_in_time() {
        let (answer, answers) = std::sync::mpsc::channel();
        let (begins, mut begun) = tokio::sync::mpsc::unbounded_channel();
        let answers = Mutex::new(answers);
        let mut slow = Followed::new(Some(1), move || {
            let _ = begins.send(());
            answers.lock().unwrap().recv().unwrap_or(Some(1))
        });
        // Paused time does not go on by itself while a reading blocks.
        let mut hang = async || {
            begun.recv().await.unwrap();
            tokio::time::advance(READ_TIMEOUT + Duration::from_millis(1)).await;
            tokio::task::yield_now().await;
        };
        let changed = tokio::spawn(async move { (slow.changed().await, slow) });
        hang().await;
        let (changed, mut slow) = changed.await.unwrap();
        assert_eq!(changed, Err(Unread::Hung));
        let changed = tokio::spawn(async move { slow.changed().await });
        for _ in 0..3 {
            answer.send(Some(2)).unwrap();
            hang().await;
            assert!(!changed.is_finished(), "it is known, and what comes too late does not count");
        }
        drop(answer);
        assert_eq!(changed.await.unwrap(), Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_that_panics_is_reported_once() {
        let panics = std::sync::atomic::AtomicU8::new(0);
        let mut followed = Followed::new(Some(1), move || {
            let number = panics.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            assert!(number >= 3, "provoked");
            Some(1)
        });
        assert_eq!(followed.changed().await, Err(Unread::Panicked));
        assert_eq!(followed.changed().await, Ok(1));
    }

    #[test]
    fn link_without_a_target_makes_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::os::unix::fs::symlink("target", &link).unwrap();
        for content in [b"1", b"2"] {
            replace(&link, content).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), content);
            assert!(link.is_symlink());
        }
    }

    #[test]
    fn open_file_is_written_to_and_not_replaced() {
        use std::os::fd::AsRawFd;
        let folder = tempfile::tempdir().unwrap();
        for (number, descriptors) in ["/proc/self/fd", "/dev/fd"].into_iter().enumerate() {
            let (link, file) = (folder.path().join(number.to_string()), tempfile::tempfile().unwrap());
            let open = format!("{descriptors}/{}", file.as_raw_fd());
            std::os::unix::fs::symlink(&open, &link).unwrap();
            replace(&link, b"content").unwrap();
            assert!(link.is_symlink());
            replace(Path::new(&open), b"content").unwrap();
            assert_eq!(file.metadata().unwrap().len(), 14);
        }
    }

    #[tokio::test]
    async fn a_file_may_be_16_mib_long() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES).unwrap();
        assert_eq!(read(file.path()).unwrap().len() as u64, 16 * 1024 * 1024);
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(file.path()).unwrap_err().to_string(), "is longer than 16777216 bytes");
        assert_eq!(read(Path::new("/dev/null")).unwrap_err().to_string(), "is no regular file");
    }

    #[test]
    fn links_that_lead_to_each_other_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        std::os::unix::fs::symlink(&one, &other).unwrap();
        std::os::unix::fs::symlink(&other, &one).unwrap();
        assert!(replace(&one, b"x").is_err());
        assert!(one.is_symlink() && other.is_symlink());
    }
}
