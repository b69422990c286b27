//! From the bytes of an answer to the JSON object that they hold, liberal in form: compressed though nobody asked for
//! it, behind a byte order mark, or in another charset than JSON's.

use std::{borrow::Cow, io::Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use serde_json::{Map, Value};

use crate::error::PollError;

/// A good answer has some hundred bytes.
pub(super) const MAX_BYTES: usize = 64 * 1024;

pub(super) const TOO_LONG: PollError = PollError::Decode("it is longer than 64 KiB");

/// What the answer held before it was encoded by `content_encoding` (RFC 9110, 8.4).
///
/// # Errors
/// For another encoding than those of the RFC, for what is not so encoded, and beyond [`MAX_BYTES`].
pub(super) fn decoded(body: Vec<u8>, content_encoding: &str) -> Result<Vec<u8>, PollError> {
    match content_encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => inflate(MultiGzDecoder::new(&*body)),
        // Some servers leave the zlib format around it out.
        "deflate" => match inflate(ZlibDecoder::new(&*body)) {
            Err(PollError::Decode(_)) => inflate(DeflateDecoder::new(&*body)),
            inflated => inflated,
        },
        _ => Err(PollError::Decode("its Content-Encoding is neither gzip nor deflate")),
    }
}

fn inflate(decoder: impl Read) -> Result<Vec<u8>, PollError> {
    let mut bytes = Vec::new();
    match decoder.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes) {
        Ok(length) if length > MAX_BYTES => Err(TOO_LONG),
        Ok(_) => Ok(bytes),
        Err(_) => Err(PollError::Decode("it is not encoded as its Content-Encoding says")),
    }
}

/// The JSON object that a body holds, where it holds one.
pub(super) fn json_object(body: &[u8]) -> Option<Map<String, Value>> {
    let text = text(body);
    serde_json::from_str(&text).ok().or_else(|| serde_json::from_str(&strict(&text)).ok())
}

fn text(body: &[u8]) -> Cow<'_, str> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).filter_map(|pair| Some(unit(pair.try_into().ok()?))).collect();
        String::from_utf16_lossy(&units)
    };
    match body {
        [0xEF, 0xBB, 0xBF, body @ ..] => String::from_utf8_lossy(body),
        [0xFF, 0xFE, body @ ..] => utf16(body, u16::from_le_bytes).into(),
        [0xFE, 0xFF, body @ ..] => utf16(body, u16::from_be_bytes).into(),
        body => str::from_utf8(body).map_or_else(|_| ascii_of(body).into(), Cow::Borrowed),
    }
}

/// The text without what JSON forbids in strings and some writers leave there: control characters, and halves of
/// surrogate pairs. Both halves of a good pair go as well: only words have any.
fn strict(text: &str) -> String {
    let mut strict: String = text.chars().map(|char| if char.is_ascii_control() { ' ' } else { char }).collect();
    for (start, escape) in text.match_indices("\\u") {
        let digits = start + escape.len();
        let unit = text.get(digits..digits + 4).map(str::as_bytes);
        if matches!(unit, Some([b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', _, _])) {
            strict.replace_range(digits..digits + 4, "fffd");
        }
    }
    strict
}

/// A text in a charset that is not UTF-8, with a question mark for each character that is not ASCII. In GBK, Big5 and
/// Shift-JIS the second byte of such a character may be one of ASCII, a backslash included.
fn ascii_of(body: &[u8]) -> String {
    let (mut text, mut bytes) = (String::with_capacity(body.len()), body.iter().peekable());
    while let Some(&byte) = bytes.next() {
        if byte.is_ascii() {
            text.push(char::from(byte));
        } else {
            bytes.next_if(|second| **second >= 0x40);
            text.push('?');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    #[test]
    fn encodings_of_the_rfc_are_decoded() {
        let text = b"an answer".to_vec();
        let (mut gzip, mut zlib, mut deflate) = (
            GzEncoder::new(Vec::new(), Compression::fast()),
            ZlibEncoder::new(Vec::new(), Compression::fast()),
            DeflateEncoder::new(Vec::new(), Compression::fast()),
        );
        for encoder in [&mut gzip as &mut dyn Write, &mut zlib, &mut deflate] {
            encoder.write_all(&text).unwrap();
        }
        let (gzip, zlib, deflate) = (gzip.finish().unwrap(), zlib.finish().unwrap(), deflate.finish().unwrap());
        for (encoding, body) in [
            ("", &text),
            ("identity", &text),
            ("gzip", &gzip),
            (" X-GZIP", &gzip),
            ("deflate", &zlib),
            ("Deflate", &deflate),
        ] {
            assert_eq!(decoded(body.clone(), encoding).unwrap(), text, "{encoding}");
        }
        for (encoding, body) in [("br", &text), ("gzip", &text), ("deflate", &gzip), ("gzip, gzip", &gzip)] {
            assert!(decoded(body.clone(), encoding).is_err(), "{encoding}");
        }
        assert!(decoded(gzip[..gzip.len() - 1].to_vec(), "gzip").is_err());
    }

    #[test]
    fn answer_that_is_long_once_decoded_is_refused() {
        let gzip = |length: usize| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&vec![b' '; length]).unwrap();
            decoded(encoder.finish().unwrap(), "gzip")
        };
        assert_eq!(gzip(MAX_BYTES).unwrap().len(), MAX_BYTES);
        assert!(matches!(gzip(MAX_BYTES + 1), Err(PollError::Decode("it is longer than 64 KiB"))));
    }

    #[test]
    fn object_is_read_behind_a_mark_and_in_any_charset() {
        let of = |body: &[u8]| json_object(body).and_then(|object| object.get("code")?.as_i64());
        assert_eq!(of(b"\xEF\xBB\xBF{\"code\":7}"), Some(7));
        assert_eq!(of(b"{\"msg\":\"\xb3\xc9\xb9\xa6\",\"code\":7}"), Some(7), "GBK");
        assert_eq!(of(b"{\"msg\":\"\xd5\\\",\"code\":7}"), Some(7), "GBK with a backslash in a character");
        assert_eq!(of(b"{\"msg\":\"\xe9\",\"code\":7}"), Some(7), "Latin-1");
        let utf16: Vec<u8> = "\u{FEFF}{\"code\":7}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(of(&utf16), Some(7));
        for msg in [r"\ud800 x", r"\uD83D\uDE00", r"\uDBff", r"\udA00", "a\nb\tc\u{1}"] {
            assert_eq!(of(format!("{{\"msg\":\"{msg}\",\"code\":7}}").as_bytes()), Some(7), "{msg}");
        }
        assert_eq!((of(b"\xff"), of(b""), of(b"[]")), (None, None, None));
        let half = json_object(br#"{"a":"1\ud8300","\ud863ode":7}"#).unwrap();
        assert_eq!(half.get("a").and_then(Value::as_str), Some("1\u{FFFD}0"), "half of a pair is no digit");
        assert!(!half.contains_key("code"));
    }
}
