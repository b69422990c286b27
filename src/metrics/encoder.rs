//! The one thread on which bodies are made.
//!
//! Encoding thousands of accounts takes some milliseconds, too long for a thread that serves connections.
//! One thread bounds what it costs to one core, and keeps the memory of large bodies in one heap: spread
//! over a pool of threads, the allocator would hold on to a body's size for each of them. And it is not the
//! runtime's pool, which files that hang can exhaust.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Sender, channel},
    thread,
};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs, one after the other. The thread ends with the last handle.
#[derive(Debug)]
pub(super) struct Encoder(Option<Sender<Job>>);

impl Encoder {
    pub(super) fn start() -> Self {
        let (jobs, queue) = channel::<Job>();
        let work = move || queue.into_iter().for_each(|job| drop(catch_unwind(AssertUnwindSafe(job))));
        // Without a thread there is no exposition, and each scrape is told so.
        Self(thread::Builder::new().name("encoder".to_owned()).spawn(work).ok().map(|_| jobs))
    }

    /// What `job` returns; `None` where it panicked.
    pub(super) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (result, done) = oneshot::channel();
        let job: Job = Box::new(move || drop(result.send(job())));
        self.0.as_ref()?.send(job).ok()?;
        done.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_takes_no_other_with_it() {
        let encoder = Encoder::start();
        assert_eq!(encoder.run(|| panic!("provoked")).await, None::<u8>);
        assert_eq!(encoder.run(|| 7).await, Some(7));
    }
}
