//! The log: logfmt or JSON lines on standard error, each counted by its level.
//!
//! Lines are written by a thread of their own. While nobody reads standard error, a bounded number of lines waits, and
//! further ones are dropped and counted: the log never holds up a scrape or a poll. Lines that cannot be written, as the
//! disk is full or the reader is gone, are counted with them.

use std::{
    io::{self, Write, stderr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tracing::{Event, Level, Subscriber, error};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer, Registry, filter::Targets, layer::Context, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    config::{Log, LogFormat},
    metrics::OwnMetrics,
};

const LAST_WORD_TIMEOUT: Duration = Duration::from_secs(1);

/// Those whose events are written at the configured level.
const OWN_CRATES: [&str; 3] = [env!("CARGO_CRATE_NAME"), "exporter_toolkit", "koodrive"];

/// Lines that wait to be written.
const MAX_WAITING_LINES: usize = 4096;

/// Sends all events to standard error from now on. The lines that wait are written before what this returns is dropped,
/// as far as somebody reads them.
///
/// The configured level is for this program's own events. The libraries below it speak at `warn` and
/// above only: at lower levels some of them would log what passes over the wire.
pub fn init(log: Log, metrics: &Arc<OwnMetrics>) -> WorkerGuard {
    let writer = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MAX_WAITING_LINES).thread_name("log");
    let failed = Arc::default();
    let (writer, guard) = writer.finish(StandardError { failed: Arc::clone(&failed) });
    let dropped = writer.error_counter();
    metrics.count_dropped_log_lines(move || dropped.dropped_lines() + failed.load(Ordering::Relaxed));
    let filter = Targets::new()
        .with_targets(OWN_CRATES.map(|name| (name, log.level)))
        // It warns of each client that sends what it must not.
        .with_target("h2", Level::ERROR)
        .with_default(log.level.min(Level::WARN));
    let count = CountByLevel(Arc::clone(metrics));
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Logfmt => Box::new(
            tracing_subscriber::fmt::layer()
                .event_format(tracing_logfmt::EventsFormatter::default())
                .fmt_fields(tracing_logfmt::FieldsFormatter::default())
                .with_writer(writer),
        ),
        LogFormat::Json => Box::new(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer)),
    };
    let subscriber = tracing_subscriber::registry().with(lines.and_then(count).with_filter(filter));
    // Fails only where a log is set already, which then stays.
    let _ = subscriber.try_init();
    on_panic(|location| error!(location, "exporter panicked, this is a bug"));
    guard
}

/// Calls `report` with a panic's place alone: its own words may quote what was being worked on, which may be a secret.
pub fn on_panic(report: impl Fn(String) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| report(panic.location().map(ToString::to_string).unwrap_or_default())));
}

/// Takes line by line, and counts those that cannot be written.
struct StandardError {
    failed: Arc<AtomicUsize>,
}

impl Write for StandardError {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if stderr().write_all(line).is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a last word to standard error.
pub fn last_word(text: &str) {
    let line = format!("koodrive-exporter: {text}\n");
    within_a_second(move || stderr().write_all(line.as_bytes()));
}

/// Writes, and waits no longer for a reader than a second.
pub fn within_a_second(write: impl Fn() -> io::Result<()> + Send + Sync + 'static) {
    let (written, done) = mpsc::channel();
    let write = Arc::new(write);
    let on_thread = Arc::clone(&write);
    match thread::Builder::new().spawn(move || written.send(on_thread())) {
        Ok(_) => drop(done.recv_timeout(LAST_WORD_TIMEOUT)),
        // The system has no more threads.
        Err(_) => drop(write()),
    }
}

struct CountByLevel(Arc<OwnMetrics>);

impl<S: Subscriber> Layer<S> for CountByLevel {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.logged(*event.metadata().level());
    }
}
