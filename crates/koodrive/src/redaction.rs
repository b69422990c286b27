//! What the API says, without what might be the credential: an API that repeats it, in any form, must not bring it into
//! the logs.

use reqwest::header::HeaderValue;

use crate::{error::Refusal, signature::hex};

/// Stands for what is left out.
const WITHHELD: &str = "(withheld: it may repeat the credential)";

/// Longer runs of letters are no words.
const MAX_WORD_LENGTH: usize = 20;

/// Shorter runs give nothing away, such as a status or a language.
const MAX_HARMLESS_LENGTH: usize = 4;

/// The digits of the vendor's codes.
const MAX_CODE_DIGITS: usize = 10;

/// As many letters and digits of the credential in a row, in any form, are too much.
const TELLING_LENGTH: usize = 6;

/// More runs of digits, or of digits and letters, might be the bytes of the credential.
const MAX_NUMBERS: usize = 3;

/// The refusal without a message that is more than words, and without a code or a request id that does not look like one.
pub(super) fn redacted(refusal: Refusal, authorization: &HeaderValue) -> Refusal {
    let header = String::from_utf8_lossy(authorization.as_bytes());
    let credential = match header.rsplit_once("Signature=") {
        Some((_, signature)) if header.starts_with("HMAC-SHA256 ") => signature,
        _ => ["Bearer ", "Bearer+", "AT "].iter().find_map(|scheme| header.strip_prefix(scheme)).unwrap_or(&header),
    };
    let safe = |text: Option<String>, is_safe: fn(&str) -> bool| {
        text.map(|text| if is_safe(&text) && !repeats(&text, credential) { text } else { WITHHELD.to_owned() })
    };
    Refusal {
        status: refusal.status,
        code: safe(refusal.code, is_code),
        message: safe(refusal.message, is_words),
        request_id: safe(refusal.request_id, is_request_id),
    }
}

/// A number, of which the vendor's are positive, or a service's name and a number as the gateway writes it (`APIGW.0301`).
fn is_code(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let number = text.rsplit_once('.').map_or(text, |(service, number)| {
        let is_service = service.len() <= MAX_WORD_LENGTH && service.bytes().all(|byte| byte.is_ascii_uppercase());
        if is_service { number } else { "" }
    });
    (1..=MAX_CODE_DIGITS).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Such as a UUID.
fn is_request_id(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Whether each run of ASCII characters that a token may hold is a word.
fn is_words(text: &str) -> bool {
    let runs = || text.split(|char: char| !char.is_ascii_alphanumeric() && !"+/=_-.~%".contains(char));
    let numbers = runs().filter(|run| run.bytes().any(|byte| byte.is_ascii_digit())).count();
    numbers <= MAX_NUMBERS && runs().all(is_word)
}

/// A code, or letters in the case of a word: a token mixes letters, digits and cases.
fn is_word(run: &str) -> bool {
    let run = run.trim_end_matches('.');
    let rest = run.get(1..).unwrap_or_default();
    let is_cased =
        run.bytes().all(|byte| byte.is_ascii_uppercase()) || rest.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_letters = run.bytes().all(|byte| byte.is_ascii_alphabetic());
    run.len() <= MAX_HARMLESS_LENGTH || is_code(run) || (is_letters && is_cased && run.len() <= MAX_WORD_LENGTH)
}

/// Whether a text holds the credential or a part of it: in either case, with anything between its letters and digits, in
/// full-width forms, or in hexadecimal digits.
fn repeats(text: &str, credential: &str) -> bool {
    let (text, plain) = (letters_and_digits(text), letters_and_digits(credential));
    let hex: Vec<char> = hex(credential.as_bytes()).chars().collect();
    let part_of = |credential: &[char], length: usize| {
        let length = length.min(credential.len());
        length > 0 && credential.windows(length).any(|part| text.windows(length).any(|window| window == part))
    };
    part_of(&plain, TELLING_LENGTH) || part_of(&hex, 2 * TELLING_LENGTH)
}

fn letters_and_digits(text: &str) -> Vec<char> {
    let narrow = |char: char| match char {
        // The full-width forms of ASCII (U+FF01 to U+FF5E) stand in its order.
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(char) - 0xFEE0).unwrap_or(char),
        _ => char,
    };
    text.chars().map(narrow).filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(said: &str, authorization: &str) -> String {
        let said = Some(said.to_owned());
        let refusal = Refusal { status: 401, code: said.clone(), message: said.clone(), request_id: said };
        redacted(refusal, &HeaderValue::from_str(authorization).unwrap()).to_string()
    }

    /// The text with something between its characters.
    fn spread(text: &str, between: &str) -> String {
        text.chars().map(String::from).collect::<Vec<_>>().join(between)
    }

    #[test]
    fn credential_is_left_out_in_every_form() {
        for authorization in
            ["Bearer hunter2==", "AT hunter2", "Bearer+hunter2", "hunter2", "HMAC-SHA256 AppId=a,Signature=hunter2"]
        {
            let shown = shown(&format!("said {authorization:?}"), authorization);
            assert!(!shown.contains("hunter2") && shown.contains("HTTP 401"), "{shown}");
        }
        let token = "MIIEpAIBAAKCAQEA7bq-Hunter2";
        for said in [
            token.to_uppercase(),
            token.to_lowercase(),
            token[1..].to_owned(),
            token[..token.len() - 1].to_owned(),
            hex(token.as_bytes()),
            token.chars().rev().collect(),
            format!("token={token};"),
            token.replace('-', " "),
            spread(token, ":"),
            spread(token, "\u{200B}"),
            spread(&hex(token.as_bytes()), " "),
            format!("{:?}", token.as_bytes()),
            token.chars().map(|char| char::from_u32(u32::from(char) + 0xFEE0).unwrap()).collect(),
        ] {
            let shown = shown(&said, &format!("Bearer {token}"));
            assert!(!shown.contains(said.trim_end()), "{said}: {shown}");
        }
        for (token, said) in [
            ("pass\u{201D}w\u{F6}rd", "bad token pass\u{201D}w\u{F6}rd"),
            ("passphrase\u{200B}", "bad token passphrase"),
            ("passphrase=7", "bad token passphrase"),
            ("correct horse battery staple", "bad token correct horse battery"),
        ] {
            let refusal = Refusal { status: 401, message: Some(said.to_owned()), ..Refusal::default() };
            let authorization = HeaderValue::from_bytes(format!("Bearer {token}").as_bytes()).unwrap();
            assert_eq!(redacted(refusal, &authorization).message.as_deref(), Some(WITHHELD), "{said}");
        }
        assert_eq!(shown("passphrase", "Bearer passphrase").matches("passphrase").count(), 0);
    }

    #[test]
    fn words_of_any_language_and_codes_are_shown() {
        for message in [
            "authentication failed",
            "Incorrect IAM authentication information: verify aksk signature fail.",
            "APIGW.0301: the date is too old (900 s)!",
            "参数错误，请检查输入的参数是否正确，然后重新提交请求",
        ] {
            let harmless = Refusal {
                status: 400,
                code: Some("13000101".to_owned()),
                message: Some(message.to_owned()),
                request_id: Some("60bd6f4d-1c1e-4b3e-9f5a-0a1b2c3d4e5f".to_owned()),
            };
            assert_eq!(redacted(harmless.clone(), &HeaderValue::from_static("Bearer hunter2==")), harmless);
        }
        assert!(
            is_code("7")
                && is_code("-1")
                && is_code("APIGW.0301")
                && !is_code("")
                && !is_code("apigw.1")
                && !is_code("12345678901")
        );
    }
}
