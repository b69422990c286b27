//! The exposition formats: families and samples in, text out.
//!
//! Source: "Text-based format" in the exposition formats page of prometheus.io/docs.

use std::fmt::Write;

/// An exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4.
    Text,
}

impl Format {
    /// The exact Content-Type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The kind of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Writes an exposition, family by family.
pub(super) struct Writer {
    out: String,
}

/// Writes one family. Its header comes with its first sample, so that a family without any is not shown.
pub(super) struct FamilyWriter<'a> {
    out: &'a mut String,
    name: &'a str,
    help: &'a str,
    kind: Kind,
    has_samples: bool,
}

impl Writer {
    pub(super) fn new(format: Format) -> Self {
        match format {
            Format::Text => Self { out: String::new() },
        }
    }

    pub(super) fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &'a str) -> FamilyWriter<'a> {
        FamilyWriter { out: &mut self.out, name, help, kind, has_samples: false }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

impl FamilyWriter<'_> {
    /// One sample: `suffix` is `_bucket`, `_sum` or `_count` for a histogram's, else empty.
    pub(super) fn sample<'l>(
        &mut self,
        suffix: &str,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        value: f64,
    ) {
        if !self.has_samples {
            self.header();
        }
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let mut opening = '{';
        for (name, value) in labels {
            self.out.push(opening);
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(self.out, value, true);
            self.out.push('"');
            opening = ',';
        }
        if opening == ',' {
            self.out.push('}');
        }
        self.out.push(' ');
        number(self.out, value);
        self.out.push('\n');
    }

    fn header(&mut self) {
        self.has_samples = true;
        self.out.push_str("# HELP ");
        self.out.push_str(self.name);
        self.out.push(' ');
        escape(self.out, self.help, false);
        self.out.push_str("\n# TYPE ");
        self.out.push_str(self.name);
        self.out.push(' ');
        self.out.push_str(self.kind.as_str());
        self.out.push('\n');
    }
}

/// Backslash and line feed are escaped everywhere, the double quote in label values.
fn escape(out: &mut String, text: &str, quote: bool) {
    let mut rest = text;
    while let Some(at) = rest.find(|char| matches!(char, '\\' | '\n') || (quote && char == '"')) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        out.push_str(match special.as_bytes().first() {
            Some(b'\n') => "\\n",
            Some(b'"') => "\\\"",
            _ => "\\\\",
        });
        rest = special.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
}

/// A number as Go's `ParseFloat` reads it: the shortest form that gives the same `f64` again.
pub(super) fn number(out: &mut String, value: f64) {
    if value == f64::INFINITY {
        out.push_str("+Inf");
    } else if value == f64::NEG_INFINITY {
        out.push_str("-Inf");
    } else {
        // Writing to a String cannot fail.
        let _ = write!(out, "{value}");
    }
}

/// A count as a sample's value.
#[expect(clippy::cast_precision_loss, reason = "samples are f64; the nearest value is right")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one_sample(help: &str, label: &str, value: f64) -> String {
        let mut writer = Writer::new(Format::Text);
        writer.family("m", Kind::Gauge, help).sample("", [("l", label)], value);
        writer.finish()
    }

    #[test]
    fn a_family_without_samples_is_not_shown() {
        let mut writer = Writer::new(Format::Text);
        writer.family("m", Kind::Gauge, "help");
        assert_eq!(writer.finish(), "");
    }

    #[test]
    fn label_values_and_help_are_escaped_each_by_its_rule() {
        assert_eq!(
            one_sample("a\\b\n\"c\"", "a\\b\n\"ü\"", 1.0),
            "# HELP m a\\\\b\\n\"c\"\n# TYPE m gauge\nm{l=\"a\\\\b\\n\\\"ü\\\"\"} 1\n"
        );
    }

    #[test]
    fn infinities_are_written_as_prometheus_reads_them() {
        assert!(one_sample("h", "l", f64::INFINITY).ends_with(" +Inf\n"));
        assert!(one_sample("h", "l", f64::NEG_INFINITY).ends_with(" -Inf\n"));
        assert!(one_sample("h", "l", f64::NAN).ends_with(" NaN\n"));
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
