//! The exposition formats: families and samples in, text out.
//!
//! Sources: "Text-based format" on the exposition formats page of prometheus.io/docs, and the OpenMetrics
//! specification, version 1.0.0.

use bytes::Bytes;
use tokio::time::Instant;

use crate::output::{Coding, Content, Output};

/// An exposition format. The two versions of the Prometheus text format differ in what names they allow;
/// all names here are allowed by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4.
    Text0,
    /// The Prometheus text format, version 1.0.0.
    Text1,
    /// OpenMetrics, version 1.0.0, without the optional `_created` samples: a Prometheus that does not use them stores
    /// each as a series.
    OpenMetrics,
    /// OpenMetrics, version 1.0.0, with `_created` samples.
    OpenMetricsCreated,
}

impl Format {
    /// All of them, the default first.
    pub const ALL: [Self; 4] = [Self::Text0, Self::Text1, Self::OpenMetrics, Self::OpenMetricsCreated];

    fn is_open_metrics(self) -> bool {
        matches!(self, Self::OpenMetrics | Self::OpenMetricsCreated)
    }

    /// The exact Content-Type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text0 => "text/plain; version=0.0.4; charset=utf-8",
            Self::Text1 => "text/plain; version=1.0.0; charset=utf-8",
            Self::OpenMetrics | Self::OpenMetricsCreated => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }
}

/// The kind of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Values that only grow.
    Counter,
    /// Values that go up and down.
    Gauge,
    /// Cumulative buckets, with sum and count.
    Histogram,
}

impl Kind {
    /// The word in the exposition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Writes an exposition, family by family.
///
/// Names of families and labels must be valid in the Prometheus text format (`[a-zA-Z_:][a-zA-Z0-9_:]*`, labels without
/// colons), and a name's family must be written once; neither is checked. Help texts and label values may hold anything.
#[derive(Debug)]
pub struct Encoder {
    out: Output,
    format: Format,
    valid_until: Option<Instant>,
    created: Option<f64>,
    /// The family that [`Self::gauge`] or [`Self::counter`] wrote last.
    latest: String,
}

/// Writes one family. Its header comes with its first sample, so that a family without any is not shown.
#[derive(Debug)]
pub struct FamilyEncoder<'a> {
    out: &'a mut Output,
    format: Format,
    name: &'a str,
    help: &'a str,
    kind: Kind,
    created: Option<f64>,
    has_samples: bool,
}

impl Encoder {
    /// An empty exposition.
    #[must_use]
    pub fn new(format: Format, coding: Coding) -> Self {
        Self { out: Output::new(coding), format, valid_until: None, created: None, latest: String::new() }
    }

    /// One sample of a gauge. Samples of one family are written one after the other.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.one(name, Kind::Gauge, help, labels, value);
    }

    /// One sample of a counter, whose name ends in `_total`. Samples of one family are written one after the other.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.one(name, Kind::Counter, help, labels, value);
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, labels: &[(&str, &str)], value: f64) {
        let has_samples = self.latest == name;
        if !has_samples {
            name.clone_into(&mut self.latest);
        }
        let mut family = FamilyEncoder { has_samples, ..self.family(name, kind, help) };
        family.sample("", b"", labels.iter().copied(), value);
    }

    /// What is written changes at this time, though [`changes`](crate::Collector::changes) will not count it.
    pub fn valid_until(&mut self, time: Instant) {
        self.valid_until = Some(self.valid_until.map_or(time, |before| before.min(time)));
    }

    /// When counters and histograms that are written from now on began, in Unix time: their `_created`.
    pub fn created(&mut self, unix_seconds: f64) {
        self.created = Some(unix_seconds);
    }

    /// A family. Its header is written with its first sample.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &'a str) -> FamilyEncoder<'a> {
        let created = self.created.filter(|_| self.format == Format::OpenMetricsCreated && kind != Kind::Gauge);
        let (out, format) = (&mut self.out, self.format);
        FamilyEncoder { out, format, name, help, kind, created, has_samples: false }
    }

    /// The exposition in pieces, and until when it shows what is true.
    #[must_use]
    pub fn finish(self) -> (Vec<Bytes>, Option<Instant>) {
        let content = self.into_content();
        (content.pieces, content.valid_until)
    }

    pub(crate) fn into_content(mut self) -> Content {
        if self.format.is_open_metrics() {
            // It belongs to no family.
            self.out.begin_family("");
            self.out.line().extend_from_slice(b"# EOF\n");
        }
        self.out.into_content(self.valid_until)
    }
}

impl FamilyEncoder<'_> {
    /// When the samples that are written from now on began, in Unix time, where it is not [`Encoder::created`].
    pub fn created(&mut self, unix_seconds: f64) {
        self.created = self.created.map(|_| unix_seconds);
    }

    /// One sample: `suffix` is `_bucket`, `_sum` or `_count` for a histogram's, else empty. Its labels are
    /// those that [`rendered`] made once, and some more.
    #[inline]
    pub fn sample<'l>(
        &mut self,
        suffix: &str,
        rendered: &[u8],
        labels: impl IntoIterator<Item = (&'l str, &'l str), IntoIter: Clone>,
        value: f64,
    ) {
        if !self.has_samples {
            self.header();
        }
        let labels = labels.into_iter();
        // It follows the last sample of its counter or histogram.
        let created = self.created.filter(|_| self.kind == Kind::Counter || suffix == "_count");
        let Some(created) = created else { return self.line(self.name, suffix, rendered, labels, value) };
        self.line(self.name, suffix, rendered, labels.clone(), value);
        // Prometheus keeps milliseconds.
        let created = (created * 1000.0).floor() / 1000.0;
        self.line(self.name.strip_suffix("_total").unwrap_or(self.name), "_created", rendered, labels, created);
    }

    fn line<'l>(
        &mut self,
        name: &str,
        suffix: &str,
        rendered: &[u8],
        labels: impl Iterator<Item = (&'l str, &'l str)>,
        value: f64,
    ) {
        let line = self.out.line();
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(suffix.as_bytes());
        let mut separator = b'{';
        if !rendered.is_empty() {
            line.push(separator);
            line.extend_from_slice(rendered);
            separator = b',';
        }
        for (name, value) in labels {
            line.push(separator);
            label(line, name, value);
            separator = b',';
        }
        if separator == b',' {
            line.push(b'}');
        }
        line.push(b' ');
        number(line, value);
        line.push(b'\n');
        self.out.end_line();
    }

    /// A histogram's cumulative bucket up to `bound`.
    pub fn bucket<'l>(&mut self, labels: impl IntoIterator<Item = (&'l str, &'l str)>, bound: f64, count: u64) {
        let mut rendered = Vec::new();
        for (name, value) in labels {
            label(&mut rendered, name, value);
            rendered.push(b',');
        }
        rendered.extend_from_slice(b"le=\"");
        number(&mut rendered, bound);
        // There a bound is a float in its canonical form, which from 1e16 on has an exponent.
        if self.format.is_open_metrics() && bound.fract() == 0.0 && bound.abs() < 1e16 {
            rendered.extend_from_slice(b".0");
        }
        rendered.push(b'"');
        self.sample("_bucket", &rendered, [], float(count));
    }

    fn header(&mut self) {
        self.has_samples = true;
        self.out.begin_family(self.name);
        let open_metrics = self.format.is_open_metrics();
        let is_counter = self.kind == Kind::Counter;
        let line = self.out.line();
        // There a counter's family has the name without the samples' suffix.
        let name = self.name.strip_suffix("_total").filter(|_| open_metrics && is_counter).unwrap_or(self.name);
        for part in ["# HELP ", name, " "] {
            line.extend_from_slice(part.as_bytes());
        }
        escape(line, self.help, open_metrics);
        for part in ["\n# TYPE ", name, " ", self.kind.as_str(), "\n"] {
            line.extend_from_slice(part.as_bytes());
        }
        // Prometheus 3 gives a family without this line the unit of the family before.
        let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or_default();
        if open_metrics {
            for part in ["# UNIT ", name, " ", unit, "\n"] {
                line.extend_from_slice(part.as_bytes());
            }
        }
    }
}

/// One label in the form that samples take, escaped once for many of them.
#[must_use]
pub fn rendered(name: &str, value: &str) -> Vec<u8> {
    let mut rendered = Vec::with_capacity(name.len() + value.len() + "=\"\"".len());
    label(&mut rendered, name, value);
    rendered
}

fn label(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    escape(out, value, true);
    out.push(b'"');
}

/// Backslash and line feed are escaped everywhere; the double quote in label values, and in OpenMetrics'
/// help texts too.
fn escape(out: &mut Vec<u8>, text: &str, quote: bool) {
    if !text.bytes().any(|byte| matches!(byte, b'\\' | b'\n' | b'"')) {
        return out.extend_from_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quote => out.extend_from_slice(b"\\\""),
            byte => out.push(byte),
        }
    }
}

/// A number as Go's `ParseFloat` reads it: the shortest form that gives the same `f64` again.
fn number(out: &mut Vec<u8>, value: f64) {
    /// Below it every whole `f64` is the integer of its digits.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates, and the two are compared")]
    let whole = value as i64;
    #[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "below the bound it is exact")]
    let is_whole = whole as f64 == value && value.abs() < EXACT && (whole != 0 || value.is_sign_positive());
    if is_whole {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else if value == 0.0 {
        out.extend_from_slice(b"-0");
    } else if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
}

/// A count as a sample's value.
#[expect(clippy::cast_precision_loss, reason = "samples are f64; the nearest value is right")]
#[must_use]
pub fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_sample(help: &str, label: &str, value: f64) -> String {
        let mut writer = Encoder::new(Format::Text0, Coding::Identity);
        writer.family("m", Kind::Gauge, help).sample("", &rendered("l", label), [], value);
        String::from_utf8(writer.finish().0.concat()).unwrap()
    }

    #[test]
    fn a_family_without_samples_is_not_shown() {
        let mut writer = Encoder::new(Format::Text0, Coding::Identity);
        writer.family("m", Kind::Gauge, "help");
        assert!(writer.finish().0.is_empty());
    }

    #[test]
    fn label_values_and_help_are_escaped_each_by_its_rule() {
        assert_eq!(
            one_sample("a\\b\n\"c\"", "a\\b\n\"ü\"", 1.0),
            "# HELP m a\\\\b\\n\"c\"\n# TYPE m gauge\nm{l=\"a\\\\b\\n\\\"ü\\\"\"} 1\n"
        );
    }

    #[test]
    fn openmetrics_has_units_creation_times_and_families_of_counters_without_their_suffix() {
        let mut writer = Encoder::new(Format::OpenMetricsCreated, Coding::Identity);
        writer.created(1_700_000_000.250_9);
        writer.family("m_seconds_total", Kind::Counter, "a \"b\"").sample("", b"", [("l", "v")], 1.5);
        writer.gauge("g", "g", &[], 1.0);
        let mut histogram = writer.family("h_bytes", Kind::Histogram, "h");
        histogram.created(1_700_000_009.0);
        histogram.bucket([("l", "v")], 1.0, 2);
        histogram.bucket([("l", "v")], 2.5, 3);
        histogram.bucket([("l", "v")], f64::INFINITY, 4);
        histogram.sample("_count", b"", [("l", "v")], 4.0);
        let expected = "\
# HELP m_seconds a \\\"b\\\"\n# TYPE m_seconds counter\n# UNIT m_seconds seconds\nm_seconds_total{l=\"v\"} 1.5\n\
m_seconds_created{l=\"v\"} 1700000000.25\n\
# HELP g g\n# TYPE g gauge\n# UNIT g \ng 1\n\
# HELP h_bytes h\n# TYPE h_bytes histogram\n# UNIT h_bytes bytes\nh_bytes_bucket{l=\"v\",le=\"1.0\"} 2\n\
h_bytes_bucket{l=\"v\",le=\"2.5\"} 3\nh_bytes_bucket{l=\"v\",le=\"+Inf\"} 4\n\
h_bytes_count{l=\"v\"} 4\nh_bytes_created{l=\"v\"} 1700000009\n# EOF\n";
        assert_eq!(String::from_utf8(writer.finish().0.concat()).unwrap(), expected);
    }

    #[test]
    fn infinities_are_written_as_prometheus_reads_them() {
        assert!(one_sample("h", "l", f64::INFINITY).ends_with(" +Inf\n"));
        assert!(one_sample("h", "l", f64::NEG_INFINITY).ends_with(" -Inf\n"));
        assert!(one_sample("h", "l", f64::NAN).ends_with(" NaN\n"));
        assert!(one_sample("h", "l", -0.0).ends_with(" -0\n") && one_sample("h", "l", 0.0).ends_with(" 0\n"));
    }

    proptest! {
        #[test]
        fn any_value_reads_back_as_itself(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            let text = one_sample("h", "l", value);
            let written = text.trim_end().rsplit(' ').next().unwrap();
            prop_assert_eq!(written.parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn any_label_value_stays_on_its_line_and_between_its_quotes(label in "\\PC*|[\\\\\"\n]*") {
            let text = one_sample("h", &label, 0.0);
            prop_assert_eq!(text.lines().count(), 3);
            let line = text.lines().nth(2).unwrap();
            let inside = line.strip_prefix("m{l=\"").unwrap().strip_suffix("\"} 0").unwrap();
            let unescaped = inside.replace("\\\\", "\0").replace("\\\"", "\"").replace("\\n", "\n").replace('\0', "\\");
            prop_assert_eq!(unescaped, label);
        }
    }
}
