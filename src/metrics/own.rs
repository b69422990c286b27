//! The exporter's own metrics, on the `prometheus` crate's registry.

use std::sync::OnceLock;

use exporter_toolkit::{Encoder, float};
use koodrive::{Head, Stage};
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, PullingGauge, Registry,
    core::Collector, process_collector::ProcessCollector,
};
use tracing::Level;

use crate::{
    poll::{Finished, Limiter},
    shard::Shard,
};

/// The bounds of `koodrive_exporter_poll_duration_seconds`: an API call over the internet takes some
/// 100 ms, and the default timeout is 10 s.
const POLL_DURATION_BUCKETS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

type DroppedLines = Box<dyn Fn() -> usize + Send + Sync>;

/// The exporter's own metrics.
pub struct OwnMetrics {
    created: f64,
    registry: Registry,
    poll_duration: Histogram,
    api_requests: IntCounterVec,
    log_messages: IntCounterVec,
    log_dropped: IntCounter,
    /// How many log lines were dropped so far.
    dropped_lines: OnceLock<DroppedLines>,
    reload_successful: IntGauge,
    reload_success_timestamp: Gauge,
}

impl OwnMetrics {
    /// Registers them; those whose label values are known are preset to 0. They begin at `created`, in Unix time.
    ///
    /// # Errors
    /// Never with the names in this file; the registry checks them.
    pub fn new(created: f64) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        let api_requests = counters(
            "koodrive_exporter_api_requests_total",
            "HTTP requests to the API by class of the answer's status code; none if there was no answer.",
            &["code"],
        )?;
        for code in ["1xx", "2xx", "3xx", "4xx", "5xx", "none"] {
            api_requests.with_label_values(&[code]);
        }
        let log_messages = counters(
            "koodrive_exporter_log_messages_total",
            "Log messages by level, dropped ones included.",
            &["level"],
        )?;
        for level in ["error", "warn", "info", "debug", "trace"] {
            log_messages.with_label_values(&[level]);
        }
        register(&registry, build_info())?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            created,
            poll_duration: register(&registry, poll_duration())?,
            api_requests,
            log_messages,
            log_dropped: counter(
                "koodrive_exporter_log_messages_dropped_total",
                "Log messages dropped because standard error was not read in time or could not be written.",
            )?,
            dropped_lines: OnceLock::new(),
            reload_successful: gauge(
                "koodrive_exporter_config_last_reload_successful",
                "Result of the latest load of the configuration or of a file of http.ca_file: 1 for success, 0 for failure.",
            )?,
            reload_success_timestamp: register(
                &registry,
                Gauge::new(
                    "koodrive_exporter_config_last_reload_success_timestamp_seconds",
                    "Unix time of the last successful load of the configuration.",
                ),
            )?,
            registry,
        })
    }

    /// Whether the latest load of the configuration succeeded.
    #[must_use]
    pub fn config_is_good(&self) -> bool {
        self.reload_successful.get() == 1
    }

    /// How many log lines were dropped so far.
    #[must_use]
    pub fn dropped_log_lines(&self) -> usize {
        self.dropped_lines.get().map_or(0, |dropped| dropped())
    }

    /// Counts a finished poll and its requests.
    pub fn polled(&self, finished: &Finished) {
        self.poll_duration.observe(finished.duration.as_secs_f64());
        for request in finished.exchanges() {
            let class = match request.stage {
                Stage::Unsent => continue,
                Stage::Sent => "none",
                Stage::Answered(Head { status, .. }) => match status {
                    ..200 => "1xx",
                    200..300 => "2xx",
                    300..400 => "3xx",
                    400..500 => "4xx",
                    500.. => "5xx",
                },
            };
            self.api_requests.with_label_values(&[class]).inc();
        }
    }

    /// The configuration was read at `unix_seconds`.
    pub fn config_loaded(&self, unix_seconds: f64) {
        self.reload_successful.set(1);
        self.reload_success_timestamp.set(unix_seconds);
    }

    /// The configuration was read again and is not valid.
    pub fn config_failed(&self) {
        self.reload_successful.set(0);
    }

    /// What was not valid was read again, and is.
    pub fn config_is_good_again(&self) {
        self.reload_successful.set(1);
    }

    /// This exporter polls a part of the accounts.
    ///
    /// # Errors
    /// When it is called twice.
    pub fn sharded(&self, shard: Shard) -> prometheus::Result<()> {
        let help = "Part of the accounts that this exporter polls; always 1, and absent without shards.";
        let opts = Opts::new("koodrive_exporter_shard_info", help);
        let info = register(&self.registry, IntGaugeVec::new(opts, &["index", "count"]))?;
        info.with_label_values(&[shard.index().to_string(), shard.count().to_string()]).set(1);
        Ok(())
    }

    /// Shows the polls that this limiter counts.
    ///
    /// # Errors
    /// When it is called twice.
    pub fn show_polls(&self, limiter: &Limiter) -> prometheus::Result<()> {
        let gauge = |name: &str, help: &str, value: fn(&Limiter) -> usize| {
            let limiter = limiter.clone();
            // Permits are far fewer than a float can count exactly.
            let gauge = PullingGauge::new(name, help, Box::new(move || float(value(&limiter) as u64)))?;
            self.registry.register(Box::new(gauge))
        };
        gauge("koodrive_exporter_polls_in_flight", "Polls in flight.", Limiter::in_flight)?;
        gauge("koodrive_exporter_polls_waiting", "Polls waiting for a permit of poll.concurrency.", Limiter::waiting)
    }

    /// Counts dropped log lines, of which `dropped` returns the number so far.
    pub fn count_dropped_log_lines(&self, dropped: impl Fn() -> usize + Send + Sync + 'static) {
        let _ = self.dropped_lines.set(Box::new(dropped));
    }

    /// Counts a log message.
    pub fn logged(&self, level: Level) {
        self.log_messages.with_label_values(&[level.as_str().to_lowercase()]).inc();
    }

    /// When the configuration was last read, in Unix time.
    #[must_use]
    pub fn config_time(&self) -> f64 {
        self.reload_success_timestamp.get()
    }

    /// When they began, in Unix time.
    #[must_use]
    pub fn created(&self) -> f64 {
        self.created
    }

    /// The registry, up to date.
    pub(super) fn registry(&self) -> &Registry {
        self.log_dropped.inc_by((self.dropped_log_lines() as u64).saturating_sub(self.log_dropped.get()));
        &self.registry
    }

    pub(super) fn write(&self, encoder: &mut Encoder) {
        encoder.registry(self.registry());
    }
}

fn register<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> prometheus::Result<M> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn poll_duration() -> prometheus::Result<Histogram> {
    let help = "Duration of polls over all accounts, in seconds, retries included.";
    let opts = HistogramOpts::new("koodrive_exporter_poll_duration_seconds", help);
    Histogram::with_opts(opts.buckets(POLL_DURATION_BUCKETS.to_vec()))
}

fn build_info() -> prometheus::Result<IntGaugeVec> {
    let opts =
        Opts::new("koodrive_exporter_build_info", "Version, revision, compiler and target of this build; always 1.");
    let info = IntGaugeVec::new(opts, &["version", "revision", "rustc", "target"])?;
    let labels = [env!("CARGO_PKG_VERSION"), env!("BUILD_REVISION"), env!("BUILD_RUSTC"), env!("BUILD_TARGET")];
    info.with_label_values(&labels).set(1);
    Ok(info)
}

#[cfg(test)]
mod tests;
