//! What a client would rather have: `Accept` and `Accept-Encoding` (RFC 9110, sections 12.4 and 12.5).

use std::cmp::Reverse;

use hyper::{
    HeaderMap,
    header::{ACCEPT, ACCEPT_ENCODING, HeaderName},
};

use crate::{encoder::Format, output::Coding};

/// The formats that a client can name, the default first.
const OFFERS: [Format; 3] = [Format::Text0, Format::Text1, Format::OpenMetrics];

const PROTOBUF: &str = "application/vnd.google.protobuf";

/// One member of a list of preferences: `text/plain; version=0.0.4; q=0.5`.
struct Preference<'a> {
    value: &'a str,
    version: Option<&'a str>,
    /// In thousandths; 0 is a refusal.
    quality: u16,
}

/// The exposition format for a client. The default is for one that takes none of them, too: a scrape is
/// better answered than refused.
///
/// Prometheus asks for protobuf before all others where its created timestamps are on. Then it gets them in
/// OpenMetrics, as protobuf is not served.
pub(crate) fn format(headers: &HeaderMap) -> Format {
    let preferences: Vec<_> = preferences(headers, &ACCEPT).collect();
    // What the most specific preference says of a format, and which preference that is.
    let rating = |format: Format| {
        let rated = preferences.iter().enumerate();
        let matching = rated.filter_map(|(place, it)| Some((specificity(format, it)?, Reverse(place), it.quality)));
        matching.max().map(|(_, place, quality)| (quality, place))
    };
    // The offer of the highest quality above 0; among equals the one named first, then the one offered first.
    let rated = OFFERS.into_iter().rev().filter_map(|offer| Some((rating(offer)?, offer)));
    let acceptable = rated.filter(|((quality, _), _)| *quality > 0);
    let format = acceptable.max_by_key(|(rating, _)| *rating).map_or(Format::Text0, |(_, format)| format);
    // The first of those that are wanted most.
    let favourite = preferences.iter().rev().max_by_key(|preference| preference.quality);
    let protobuf_first = favourite.is_some_and(|favourite| favourite.value.eq_ignore_ascii_case(PROTOBUF));
    if format == Format::OpenMetrics && protobuf_first { Format::OpenMetricsCreated } else { format }
}

/// The content coding for a client: compressed only where it asks for that, and no less than for the plain form.
pub(crate) fn coding(headers: &HeaderMap) -> Coding {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for Preference { value, quality, .. } in preferences(headers, &ACCEPT_ENCODING) {
        let named = match value {
            "*" => &mut any,
            value if value.eq_ignore_ascii_case("gzip") || value.eq_ignore_ascii_case("x-gzip") => &mut gzip,
            value if value.eq_ignore_ascii_case("identity") => &mut identity,
            _ => continue,
        };
        named.get_or_insert(quality);
    }
    let (gzip, identity) = (gzip.or(any).unwrap_or(0), identity.or(any).unwrap_or(0));
    if gzip > 0 && gzip >= identity { Coding::Gzip } else { Coding::Identity }
}

/// How exactly a media range names a format; `None` where it doesn't.
fn specificity(format: Format, range: &Preference<'_>) -> Option<u8> {
    let (media_type, subtype, version) = match format {
        Format::Text0 => ("text/plain", "text/*", "0.0.4"),
        Format::Text1 => ("text/plain", "text/*", "1.0.0"),
        Format::OpenMetrics | Format::OpenMetricsCreated => ("application/openmetrics-text", "application/*", "1.0.0"),
    };
    match range.value {
        value if value.eq_ignore_ascii_case(media_type) => match range.version {
            Some(wanted) => (wanted == version).then_some(3),
            None => Some(2),
        },
        value if value.eq_ignore_ascii_case(subtype) => Some(1),
        "*/*" => Some(0),
        _ => None,
    }
}

/// The members of a header's list, which may come in several lines.
fn preferences<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = Preference<'h>> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(member)
}

/// One member of a list; one that is malformed counts for nothing.
fn member(member: &str) -> Option<Preference<'_>> {
    let mut parts = member.split(';').map(str::trim_ascii);
    let value = parts.next().filter(|value| !value.is_empty())?;
    let mut preference = Preference { value, version: None, quality: 1000 };
    for parameter in parts {
        match parameter.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("q") => preference.quality = quality(value)?,
            Some((name, value)) if name.eq_ignore_ascii_case("version") => {
                preference.version = Some(value.trim_matches('"'));
            }
            _ => {}
        }
    }
    Some(preference)
}

/// A weight of 0 to 1 with up to three decimals, in thousandths.
fn quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = decimals.bytes().zip([100, 10, 1]).map(|(digit, unit)| u16::from(digit - b'0') * unit).sum();
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(name: &HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.clone(), HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn the_format_is_the_one_that_the_client_would_rather_have() {
        const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        const PROMETHEUS_2: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
            q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        const PROTOBUF_FIRST: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
            encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
            text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        const PROTOBUF_LAST: &str = "application/openmetrics-text;version=1.0.0;q=0.5,\
            application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.4";
        for (accept, expected) in [
            (PROTOBUF_FIRST, Format::OpenMetricsCreated),
            (PROTOBUF_LAST, Format::OpenMetrics),
            (PROMETHEUS_3, Format::OpenMetrics),
            (PROMETHEUS_2, Format::OpenMetrics),
            ("", Format::Text0),
            ("*/*", Format::Text0),
            ("text/*", Format::Text0),
            ("text/plain", Format::Text0),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text0),
            ("image/png", Format::Text0),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily", Format::Text0),
            ("text/plain;version=1.0.0", Format::Text1),
            ("TEXT/PLAIN; Version=\"1.0.0\"", Format::Text1),
            ("text/plain;version=2.0.0", Format::Text0),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Format::Text0),
            ("text/plain;version=0.0.4;q=0.5, application/openmetrics-text;q=0.51", Format::OpenMetrics),
            ("text/plain;version=0.0.4;q=0.5, application/openmetrics-text;q=0.49", Format::Text0),
            ("text/plain, application/openmetrics-text", Format::Text0),
            ("application/openmetrics-text, text/plain", Format::OpenMetrics),
            ("*/*, text/plain;version=0.0.4;q=0", Format::Text1),
            ("*/*, text/plain;q=0", Format::OpenMetrics),
            ("*/*;q=0", Format::Text0),
            ("application/openmetrics-text;q=1.5, text/plain;version=1.0.0;q=0.001", Format::Text1),
            (",, ;q=1,", Format::Text0),
        ] {
            assert_eq!(format(&headers(&ACCEPT, accept)), expected, "{accept}");
        }
    }

    #[test]
    fn compression_is_for_those_who_ask_for_it() {
        for (accept, expected) in [
            ("", Coding::Identity),
            ("gzip", Coding::Gzip),
            ("GZIP", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("deflate, gzip, br", Coding::Gzip),
            ("gzip;q=0", Coding::Identity),
            ("*", Coding::Gzip),
            ("*;q=0.5, gzip;q=0", Coding::Identity),
            ("identity;q=0.5, gzip;q=0.4", Coding::Identity),
            ("identity;q=0.5, gzip;q=0.5", Coding::Gzip),
            ("identity;q=0, gzip;q=0.001", Coding::Gzip),
            ("br", Coding::Identity),
            ("x-gzip, *;q=0", Coding::Gzip),
            ("*;q=0.5, identity", Coding::Identity),
        ] {
            assert_eq!(coding(&headers(&ACCEPT_ENCODING, accept)), expected, "{accept}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_answered(value in "[ -~]*") {
            let _ = (format(&headers(&ACCEPT, &value)), coding(&headers(&ACCEPT_ENCODING, &value)));
        }
    }
}
