//! From an answer's status and bytes to an [`Overview`]: pure.
//!
//! Two shapes are read: the API's own envelope, `{"code": 0, "msg": "...", "data": {...}}`, and that of
//! the gateway before it, `{"error_code": "APIGW....", "error_msg": "...", "request_id": "..."}`.

use serde_json::{Map, Value};

use crate::body::json_object;
use crate::error::{PollError, Reason, Refusal};
use crate::unit::{Unit, Units};

/// The codes that the vendor lists. None of them speaks of the credentials, though the page calls status 400 itself
/// "authentication failed".
const CODES_NOT_OF_AUTH: [i64; 7] = [
    13_000_101, // bad request
    13_000_102, // bad parameter
    INNER_INVOCATION_FAILED,
    13_000_301, // space missing or abnormal
    13_000_311, // space insufficient
    13_000_410, // no permission
    13_000_412, // space not active
];

/// The server's own fault, which may pass by itself.
pub(super) const INNER_INVOCATION_FAILED: i64 = 13_000_201;

/// What one good answer says.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// `totalCapacity`, in bytes.
    pub total_capacity: Field,
    /// `totalUsed`, in bytes. It may exceed the capacity.
    pub total_used: Field,
    /// `totalAllocation`, in bytes or as a count, by the configured unit.
    pub total_allocation: Field,
    /// `quota` converted from GB to bytes, where the answer has it.
    pub quota: Option<Result<f64, FieldFault>>,
}

/// One number of the answer, or why there is none.
pub type Field = Result<Measure, FieldFault>;

/// One number of the answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// As the API gave it: 0 to 2^63-1.
    pub reported: u64,
    /// In bytes, or a count.
    pub value: f64,
}

/// What is wrong with one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldFault {
    /// The field is not there, or null.
    #[error("is missing")]
    Missing,
    /// No amount of space is negative, and no sentinel is documented.
    #[error("is negative")]
    Negative,
    /// Neither an integer nor a string of digits, or above 2^63-1.
    #[error("is not a number the API documents")]
    NotANumber,
}

impl Overview {
    /// The answer's faulty fields in words, where it has any.
    #[must_use]
    pub fn faults(&self) -> Option<String> {
        let faults: Vec<String> = [
            ("totalCapacity", self.total_capacity.err()),
            ("totalUsed", self.total_used.err()),
            ("totalAllocation", self.total_allocation.err()),
            ("quota", self.quota.and_then(Result::err)),
        ]
        .into_iter()
        .filter_map(|(name, fault)| fault.map(|fault| format!("{name} {fault}")))
        .collect();
        (!faults.is_empty()).then(|| faults.join(", "))
    }
}

/// Reads an answer.
///
/// # Errors
/// [`PollError::Decode`] for a success that can't be read, [`PollError::InvalidData`] for one without
/// `data`, and [`PollError::Refused`] for everything else. A faulty number is not an error here but in
/// its own [`Field`].
pub fn read(status: u16, body: &[u8], units: Units) -> Result<Overview, PollError> {
    if !(200..300).contains(&status) {
        return Err(refused(status, body));
    }
    let envelope = json_object(body).ok_or(PollError::Decode("it is not a JSON object"))?;
    match envelope.get("code").map(integer) {
        Some(Some(0)) => {}
        Some(Some(_)) => return Err(refusal(Reason::ApiError, status, &envelope)),
        Some(None) => return Err(PollError::Decode("its `code` is not an integer")),
        None if envelope.contains_key("error_code") => return Err(refusal(Reason::ApiError, status, &envelope)),
        None => return Err(PollError::Decode("it has no `code`")),
    }
    match envelope.get("data") {
        None | Some(Value::Null) => Err(PollError::InvalidData("data is missing".to_owned())),
        Some(Value::Object(data)) => Ok(overview(data, units)),
        Some(_) => Err(PollError::Decode("its `data` is not an object")),
    }
}

/// Whether an answer has one of the two shapes, and so is not from somebody else on the way, such as a proxy.
pub(super) fn is_of_the_api(result: &Result<Overview, PollError>) -> bool {
    match result {
        Ok(_) | Err(PollError::InvalidData(_)) => true,
        Err(PollError::Refused { refusal, .. }) => refusal.code.is_some(),
        Err(_) => false,
    }
}

fn overview(data: &Map<String, Value>, units: Units) -> Overview {
    let field = |name: &str, unit: Unit| {
        let reported = number(data.get(name))?;
        Ok(Measure { reported, value: unit.convert(reported) })
    };
    Overview {
        total_capacity: field("totalCapacity", units.total_capacity),
        total_used: field("totalUsed", units.total_used),
        total_allocation: field("totalAllocation", units.total_allocation),
        quota: quota(data.get("quota")),
    }
}

/// An amount of 0 to 2^63-1, as an integer, as a float without a fraction, or as a string of one.
fn number(value: Option<&Value>) -> Result<u64, FieldFault> {
    let value = match value {
        None | Some(Value::Null) => return Err(FieldFault::Missing),
        Some(value) => value,
    };
    let number = integer(value).ok_or(FieldFault::NotANumber)?;
    u64::try_from(number).map_err(|_| FieldFault::Negative)
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| integral(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok().or_else(|| integral(text.trim().parse().ok()?)),
        _ => None,
    }
}

fn integral(float: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    let fits = float.fract() == 0.0 && (-LIMIT..LIMIT).contains(&float);
    #[expect(clippy::cast_possible_truncation, reason = "it is within the bounds and has no fraction")]
    fits.then_some(float as i64)
}

/// 1024^3 bytes.
const GIGABYTE: f64 = 1_073_741_824.0;

/// The quota: documented as a string, in GB of 1024^3 bytes. An empty one says that there is none.
fn quota(value: Option<&Value>) -> Option<Result<f64, FieldFault>> {
    let gigabytes = match value? {
        Value::Null => return None,
        Value::String(text) if text.trim().is_empty() => return None,
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    Some(match gigabytes {
        Some(quota) if quota < 0.0 => Err(FieldFault::Negative),
        // Adding zero takes the sign of -0 away.
        Some(quota) if (quota * GIGABYTE).is_finite() => Ok(quota * GIGABYTE + 0.0),
        _ => Err(FieldFault::NotANumber),
    })
}

/// What a status that is no success means. At 400 and 403, an answer in neither shape is from somebody on the way, such
/// as a proxy or a firewall.
fn refused(status: u16, body: &[u8]) -> PollError {
    let envelope = json_object(body).unwrap_or_default();
    let is_of_the_api = envelope.contains_key("code") || envelope.contains_key("error_code");
    let code = envelope.get("code").and_then(integer);
    let reason = match status {
        401 => Reason::Auth,
        400 | 403 if code.is_some_and(|code| CODES_NOT_OF_AUTH.contains(&code)) => Reason::ApiError,
        400 | 403 if is_of_the_api => Reason::Auth,
        429 => Reason::RateLimited,
        _ => Reason::HttpStatus,
    };
    refusal(reason, status, &envelope)
}

fn refusal(reason: Reason, status: u16, envelope: &Map<String, Value>) -> PollError {
    let text = |names: [&str; 2]| names.iter().find_map(|name| words(envelope.get(*name)?));
    let refusal = Refusal {
        status,
        code: text(["code", "error_code"]),
        message: text(["msg", "error_msg"]),
        request_id: text(["request_id", "requestId"]),
    };
    PollError::Refused { reason, refusal }
}

/// No more of a foreign text is shown.
const MAX_SHOWN_CHARS: usize = 200;

/// A foreign text, cut, and without the control characters that would break a log line.
fn words(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(text.chars().filter(|char| !char.is_control()).take(MAX_SHOWN_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_ok(body: &str) -> Overview {
        read(200, body.as_bytes(), Units::default()).unwrap()
    }

    fn reason(status: u16, body: &str) -> &'static str {
        read(status, body.as_bytes(), Units::default()).unwrap_err().reason().as_str()
    }

    #[test]
    fn the_vendors_sample_is_read_in_kilobytes() {
        let overview = read_ok(
            r#"{"data":{"totalAllocation":43,"totalCapacity":1051187,"totalUsed":33085606},"code":0,"msg":"success"}"#,
        );
        assert_eq!(overview.total_capacity, Ok(Measure { reported: 1_051_187, value: 1_051_187.0 * 1024.0 }));
        assert_eq!(overview.total_used, Ok(Measure { reported: 33_085_606, value: 33_085_606.0 * 1024.0 }));
        assert_eq!(overview.total_allocation, Ok(Measure { reported: 43, value: 43.0 * 1024.0 }));
        assert_eq!((overview.quota, overview.faults()), (None, None));
    }

    #[test]
    fn each_field_is_read_in_its_own_unit() {
        let units = Units { total_capacity: Unit::GB, total_used: Unit::B, total_allocation: Unit::Count };
        let body = br#"{"data":{"totalAllocation":43,"totalCapacity":2,"totalUsed":7},"code":0}"#;
        let overview = read(200, body, units).unwrap();
        let values =
            [overview.total_capacity, overview.total_used, overview.total_allocation].map(|field| field.unwrap().value);
        assert_eq!(values, [2.0 * 1024.0 * 1024.0 * 1024.0, 7.0, 43.0]);
    }

    #[test]
    fn numbers_may_come_as_strings_and_the_code_too() {
        let overview = read_ok(r#"{"data":{"totalAllocation":"1","totalCapacity":"2","totalUsed":"3"},"code":"0"}"#);
        assert_eq!(overview.faults(), None);
    }

    #[test]
    fn floats_without_a_fraction_are_integers() {
        let overview = read_ok(
            r#"{"data":{"totalAllocation":43.0,"totalCapacity":1.051187e6,"totalUsed":"33085606.0"},"code":0.0}"#,
        );
        let reported = [overview.total_allocation, overview.total_capacity, overview.total_used];
        assert_eq!(reported.map(|field| field.unwrap().reported), [43, 1_051_187, 33_085_606]);
        let overview = read_ok(r#"{"data":{"totalAllocation":0.5,"totalCapacity":1e19,"totalUsed":-1.0},"code":0}"#);
        assert_eq!(overview.total_allocation, Err(FieldFault::NotANumber));
        assert_eq!(overview.total_capacity, Err(FieldFault::NotANumber));
        assert_eq!(overview.total_used, Err(FieldFault::Negative));
    }

    #[test]
    fn the_largest_long_is_read_and_one_more_is_not() {
        let overview = read_ok(
            r#"{"code":0,"data":{"totalCapacity":9223372036854775807,"totalUsed":9223372036854775808,"totalAllocation":"9223372036854775807"}}"#,
        );
        assert_eq!(overview.total_capacity.unwrap().value, 2f64.powi(73));
        assert_eq!(overview.total_used, Err(FieldFault::NotANumber));
        assert_eq!(overview.total_allocation, overview.total_capacity);
    }

    #[test]
    fn a_faulty_field_spoils_none_of_the_others() {
        let overview = read_ok(r#"{"code":0,"data":{"totalCapacity":-1,"totalUsed":5}}"#);
        assert_eq!(overview.total_capacity, Err(FieldFault::Negative));
        assert_eq!(overview.total_used.unwrap().reported, 5);
        assert_eq!(overview.total_allocation, Err(FieldFault::Missing));
        assert_eq!(overview.faults().unwrap(), "totalCapacity is negative, totalAllocation is missing");
    }

    #[test]
    fn the_quota_is_optional_and_in_gigabytes() {
        let quota = |json: &str| {
            let body = format!(
                r#"{{"code":0,"data":{{"totalCapacity":1,"totalUsed":1,"totalAllocation":1,"quota":{json}}}}}"#
            );
            read_ok(&body).quota
        };
        assert_eq!(quota(r#""100""#), Some(Ok(107_374_182_400.0)));
        assert_eq!(quota("0.5"), Some(Ok(536_870_912.0)));
        assert_eq!(quota("0"), Some(Ok(0.0)));
        assert!(quota(r#""-0""#).unwrap().unwrap().is_sign_positive());
        assert_eq!((quota("null"), quota(r#""""#)), (None, None));
        assert_eq!(quota(r#""-1""#), Some(Err(FieldFault::Negative)));
        assert_eq!(quota(r#""1e300""#), Some(Err(FieldFault::NotANumber)));
        assert_eq!(quota(r#""NaN""#), Some(Err(FieldFault::NotANumber)));
        assert_eq!(quota("[]"), Some(Err(FieldFault::NotANumber)));
    }

    #[test]
    fn success_takes_code_0_and_data() {
        assert_eq!(reason(200, r#"{"code":0,"msg":"success"}"#), "invalid_data");
        assert_eq!(reason(200, r#"{"code":0,"data":null}"#), "invalid_data");
        assert_eq!(reason(200, r#"{"code":13000301,"data":{"totalUsed":1}}"#), "api_error");
        assert_eq!(reason(200, r#"{"error_code":"APIGW.0101","error_msg":"no"}"#), "api_error");
        for unreadable in [
            "",
            "null",
            "[]",
            "<html>",
            "{}",
            r#"{"code":{}}"#,
            r#"{"code":0.5}"#,
            r#"{"code":"zero"}"#,
            r#"{"code":0,"data":[1,2,3]}"#,
        ] {
            assert_eq!(reason(200, unreadable), "decode", "{unreadable}");
        }
        assert_eq!(reason(200, &"[".repeat(60_000)), "decode");
        assert_eq!(reason(200, &r#"{"a":"#.repeat(10_000)), "decode");
    }

    #[test]
    fn a_refusal_has_its_reason_by_status_and_code() {
        assert_eq!(reason(400, r#"{"code":13000999,"msg":"?"}"#), "auth");
        for code in CODES_NOT_OF_AUTH {
            assert_eq!(reason(400, &format!(r#"{{"code":{code},"msg":"?"}}"#)), "api_error", "{code}");
        }
        assert_eq!(reason(403, r#"{"code":13000410}"#), "api_error");
        assert_eq!(reason(401, r#"{"code":13000410}"#), "auth");
        assert_eq!(reason(400, r#"{"code":"13000412","msg":"not active"}"#), "api_error");
        assert_eq!(
            (reason(400, ""), reason(403, "<html>"), reason(400, "{}")),
            ("http_status", "http_status", "http_status")
        );
        assert_eq!((reason(401, "<html>"), reason(403, r#"{"error_code":"APIGW.0303"}"#)), ("auth", "auth"));
        assert_eq!(reason(401, r#"{"error_code":"APIGW.0301"}"#), "auth");
        assert_eq!(reason(429, ""), "rate_limited");
        assert_eq!(reason(302, ""), "http_status");
        assert_eq!(reason(500, r#"{"code":0,"data":{"totalUsed":1}}"#), "http_status");
    }

    #[test]
    fn a_refusal_tells_code_message_and_request_in_either_shape() {
        let text = |body: &str| read(401, body.as_bytes(), Units::default()).unwrap_err().to_string();
        assert_eq!(text(r#"{"code":7,"msg":"a\nb"}"#), r#"the API answered HTTP 401, code "7", message "ab""#);
        assert_eq!(
            text(r#"{"error_code":"APIGW.0301","error_msg":"bad","request_id":"r1"}"#),
            r#"the API answered HTTP 401, code "APIGW.0301", message "bad", request_id "r1""#
        );
        assert!(text(&format!(r#"{{"msg":"{}"}}"#, "x".repeat(9000))).len() < 300);
    }

    proptest! {
        #[test]
        fn any_amount_is_read_exactly_as_integer_or_string(amount in 0u64..=i64::MAX.unsigned_abs(), text: bool) {
            let quote = if text { "\"" } else { "" };
            let body = format!(r#"{{"code":0,"data":{{"totalUsed":{quote}{amount}{quote}}}}}"#);
            let used = read_ok(&body).total_used.unwrap();
            prop_assert_eq!(used.reported, amount);
            prop_assert!(used.value >= 0.0 && used.value.is_finite());
        }

        #[test]
        fn any_bytes_at_any_status_give_a_value_or_an_error(status in 100u16..600, body: Vec<u8>) {
            if let Err(error) = read(status, &body, Units::default()) {
                prop_assert!(Reason::ALL.contains(&error.reason()));
            }
        }
    }
}
