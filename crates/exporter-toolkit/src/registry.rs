//! Metrics of the `prometheus` crate.

use prometheus::{
    Registry,
    proto::{Metric, MetricFamily, MetricType},
};

use crate::encoder::{Encoder, Kind, float};

impl Encoder {
    /// Writes all families of a registry, of which counters, gauges and histograms are known.
    pub fn registry(&mut self, registry: &Registry) {
        for family in registry.gather() {
            write_family(&family, self);
        }
    }
}

impl Kind {
    /// The kind of one of the registry's families.
    #[must_use]
    pub fn of(family: &MetricFamily) -> Self {
        match family.get_field_type() {
            MetricType::COUNTER => Self::Counter,
            MetricType::HISTOGRAM => Self::Histogram,
            _ => Self::Gauge,
        }
    }
}

fn write_family(family: &MetricFamily, encoder: &mut Encoder) {
    let kind = Kind::of(family);
    let mut out = encoder.family(family.name(), kind, family.help());
    for metric in family.get_metric() {
        match kind {
            Kind::Counter => out.sample("", b"", labels(metric), metric.get_counter().get_value()),
            Kind::Gauge => out.sample("", b"", labels(metric), metric.get_gauge().get_value()),
            Kind::Histogram => {
                let histogram = metric.get_histogram();
                let buckets =
                    histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
                for (bound, count) in buckets.chain([(f64::INFINITY, histogram.get_sample_count())]) {
                    out.bucket(labels(metric), bound, count);
                }
                out.sample("_sum", b"", labels(metric), histogram.get_sample_sum());
                out.sample("_count", b"", labels(metric), float(histogram.get_sample_count()));
            }
        }
    }
}

fn labels(metric: &Metric) -> impl Iterator<Item = (&str, &str)> + Clone {
    metric.get_label().iter().map(|pair| (pair.name(), pair.value()))
}
