//! From an answer's status and bytes to an [`Answer`]: pure.
//!
//! Two shapes are read: the API's own envelope, `{"code": 0, "msg": "...", "data": {...}}`, and that of
//! the gateway before it, `{"error_code": "APIGW....", "error_msg": "...", "request_id": "..."}`.

use serde_json::{Map, Value};

use crate::body::json_object;
use crate::error::{PollError, Reason, Refusal};
use crate::resource::{FieldSpec, Quantity, Resource};
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
pub struct Answer {
    /// What was asked for.
    pub resource: &'static Resource,
    /// In the order of the resource's fields; nothing for one that may be missing and is.
    fields: Box<[Option<Field>]>,
}

/// One number of the answer, or why there is none.
pub type Field = Result<Measure, FieldFault>;

/// One number of the answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// As the API gave it: 0 to 2^63-1. Beyond 2^53 it is the nearest number that a gauge can have.
    pub reported: f64,
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
    /// A number that has no meaning here.
    #[error("is none of the numbers that the API documents")]
    Unknown,
}

impl Answer {
    /// The good number of a field.
    #[must_use]
    pub fn measure(&self, field: FieldSpec) -> Option<Measure> {
        self.fields().find(|(spec, _)| spec.name == field.name)?.1.ok()
    }

    /// All fields that there are, or should be.
    pub fn fields(&self) -> impl Iterator<Item = (FieldSpec, Field)> {
        self.resource.fields.iter().zip(&self.fields).filter_map(|(spec, field)| Some((*spec, (*field)?)))
    }

    /// The answer's faulty fields in words, where it has any.
    #[must_use]
    pub fn faults(&self) -> Option<String> {
        let faults: Vec<String> =
            self.fields().filter_map(|(spec, field)| Some(format!("{} {}", spec.name, field.err()?))).collect();
        (!faults.is_empty()).then(|| faults.join(", "))
    }
}

/// Reads an answer.
///
/// # Errors
/// [`PollError::Decode`] for a success that can't be read, [`PollError::InvalidData`] for one without
/// `data`, and [`PollError::Refused`] for everything else. A faulty number is not an error here but in
/// its own [`Field`].
pub fn read(status: u16, body: &[u8], resource: &'static Resource, units: &Units) -> Result<Answer, PollError> {
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
        Some(Value::Object(data)) => Ok(answer(data, resource, units)),
        Some(_) => Err(PollError::Decode("its `data` is not an object")),
    }
}

/// Whether an answer has one of the two shapes, and so is not from somebody else on the way, such as a proxy.
pub(super) fn is_of_the_api(result: &Result<Answer, PollError>) -> bool {
    match result {
        Ok(_) | Err(PollError::InvalidData(_)) => true,
        Err(PollError::Refused { refusal, .. }) => refusal.code.is_some(),
        Err(_) => false,
    }
}

fn answer(data: &Map<String, Value>, resource: &'static Resource, units: &Units) -> Answer {
    let field = |spec: &FieldSpec| {
        let value = data.get(spec.name);
        let unit = units.of(resource, *spec).unwrap_or(Unit::Count);
        match spec.quantity {
            Quantity::OptionalGigabytes => gigabytes(value),
            Quantity::Flag => {
                Some(measure(value, unit).and_then(
                    |flag| {
                        if flag.value <= 1.0 { Ok(flag) } else { Err(FieldFault::Unknown) }
                    },
                ))
            }
            Quantity::Space { .. } | Quantity::SpaceOrCount { .. } | Quantity::Count => Some(measure(value, unit)),
        }
    };
    Answer { resource, fields: resource.fields.iter().map(field).collect() }
}

fn measure(value: Option<&Value>, unit: Unit) -> Field {
    let number = integer(value.filter(|value| !value.is_null()).ok_or(FieldFault::Missing)?);
    let number = u64::try_from(number.ok_or(FieldFault::NotANumber)?).map_err(|_| FieldFault::Negative)?;
    #[expect(clippy::cast_precision_loss, reason = "a gauge is an f64; the nearest value is right")]
    let reported = number as f64;
    Ok(Measure { reported, value: unit.convert(reported) })
}

/// An amount of -2^63 to 2^63-1, as an integer, as a float without a fraction, or as a string of one.
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

/// The quota: documented as a string, in GB of 1024^3 bytes. An empty one says that there is none.
fn gigabytes(value: Option<&Value>) -> Option<Field> {
    let reported = match value? {
        Value::Null => return None,
        Value::String(text) if text.trim().is_empty() => return None,
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    Some(match reported {
        Some(quota) if quota < 0.0 => Err(FieldFault::Negative),
        // Adding zero takes the sign of -0 away.
        Some(quota) if Unit::GB.convert(quota).is_finite() => {
            Ok(Measure { reported: quota + 0.0, value: Unit::GB.convert(quota) + 0.0 })
        }
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
    use serde_json::json;

    use super::*;

    use crate::{
        overview::{OVERVIEW, QUOTA, TOTAL_ALLOCATION, TOTAL_CAPACITY, TOTAL_USED},
        subscription::{FROZEN, SUBSCRIPTION},
    };

    fn read_ok(body: &str) -> Answer {
        read(200, body.as_bytes(), &OVERVIEW, &Units::default()).unwrap()
    }

    fn reason(status: u16, body: &str) -> &'static str {
        read(status, body.as_bytes(), &OVERVIEW, &Units::default()).unwrap_err().reason().as_str()
    }

    fn field(answer: &Answer, field: FieldSpec) -> Field {
        answer.fields().find(|(spec, _)| *spec == field).unwrap().1
    }

    #[test]
    fn the_vendors_sample_is_read_in_kilobytes() {
        let overview = read_ok(
            r#"{"data":{"totalAllocation":43,"totalCapacity":1051187,"totalUsed":33085606},"code":0,"msg":"success"}"#,
        );
        assert_eq!(
            field(&overview, TOTAL_CAPACITY),
            Ok(Measure { reported: 1_051_187.0, value: 1_051_187.0 * 1024.0 })
        );
        assert_eq!(field(&overview, TOTAL_USED), Ok(Measure { reported: 33_085_606.0, value: 33_085_606.0 * 1024.0 }));
        assert_eq!(field(&overview, TOTAL_ALLOCATION), Ok(Measure { reported: 43.0, value: 43.0 * 1024.0 }));
        assert_eq!((overview.fields().count(), overview.faults()), (3, None));
    }

    #[test]
    fn each_field_is_read_in_its_own_unit() {
        let mut units = Units::default();
        units.set(&OVERVIEW, "total_capacity", Unit::GB);
        units.set(&OVERVIEW, "total_used", Unit::B);
        units.set(&OVERVIEW, "total_allocation", Unit::Count);
        let body = br#"{"data":{"totalAllocation":43,"totalCapacity":2,"totalUsed":7},"code":0}"#;
        let overview = read(200, body, &OVERVIEW, &units).unwrap();
        let values =
            [field(&overview, TOTAL_CAPACITY), field(&overview, TOTAL_USED), field(&overview, TOTAL_ALLOCATION)]
                .map(|field| field.unwrap().value);
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
        let reported =
            [field(&overview, TOTAL_ALLOCATION), field(&overview, TOTAL_CAPACITY), field(&overview, TOTAL_USED)];
        assert_eq!(reported.map(|field| field.unwrap().reported), [43.0, 1_051_187.0, 33_085_606.0]);
        let overview = read_ok(r#"{"data":{"totalAllocation":0.5,"totalCapacity":1e19,"totalUsed":-1.0},"code":0}"#);
        assert_eq!(field(&overview, TOTAL_ALLOCATION), Err(FieldFault::NotANumber));
        assert_eq!(field(&overview, TOTAL_CAPACITY), Err(FieldFault::NotANumber));
        assert_eq!(field(&overview, TOTAL_USED), Err(FieldFault::Negative));
    }

    #[test]
    fn the_largest_long_is_read_and_one_more_is_not() {
        let overview = read_ok(
            r#"{"code":0,"data":{"totalCapacity":9223372036854775807,"totalUsed":9223372036854775808,"totalAllocation":"9223372036854775807"}}"#,
        );
        assert_eq!(field(&overview, TOTAL_CAPACITY).unwrap().value, 2f64.powi(73));
        assert_eq!(field(&overview, TOTAL_USED), Err(FieldFault::NotANumber));
        assert_eq!(field(&overview, TOTAL_ALLOCATION), field(&overview, TOTAL_CAPACITY));
    }

    #[test]
    fn a_faulty_field_spoils_none_of_the_others() {
        let overview = read_ok(r#"{"code":0,"data":{"totalCapacity":-1,"totalUsed":5}}"#);
        assert_eq!(field(&overview, TOTAL_CAPACITY), Err(FieldFault::Negative));
        assert_eq!(field(&overview, TOTAL_USED).unwrap().reported, 5.0);
        assert_eq!(field(&overview, TOTAL_ALLOCATION), Err(FieldFault::Missing));
        assert_eq!(overview.faults().unwrap(), "totalCapacity is negative, totalAllocation is missing");
    }

    #[test]
    fn the_quota_is_optional_and_in_gigabytes() {
        let quota = |json: &str| {
            let body = format!(
                r#"{{"code":0,"data":{{"totalCapacity":1,"totalUsed":1,"totalAllocation":1,"quota":{json}}}}}"#
            );
            read_ok(&body).fields().find(|(spec, _)| *spec == QUOTA).map(|(_, quota)| quota.map(|quota| quota.value))
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
    fn no_answer_is_good_without_data_and_each_number_may_be_a_string_or_the_largest_long() {
        for resource in Resource::ALL {
            let read = |body: &str| read(200, body.as_bytes(), resource, &Units::default());
            for without in [r#"{"code":0}"#, r#"{"code":"0","data":null}"#] {
                assert_eq!(read(without).unwrap_err().reason(), Reason::InvalidData, "{}", resource.name);
            }
            for (number, reported) in [("1.0", 1.0), (r#""1""#, 1.0), ("9223372036854775807", 2f64.powi(63))] {
                for spec in resource.fields.iter().filter(|spec| spec.quantity != Quantity::Flag) {
                    let body = format!(r#"{{"code":0,"data":{{"{}":{number}}}}}"#, spec.name);
                    assert_eq!(read(&body).unwrap().measure(*spec).unwrap().reported, reported, "{}", spec.name);
                }
            }
        }
    }

    #[test]
    fn a_status_that_is_not_documented_is_neither_frozen_nor_normal() {
        let frozen = |status: &str| {
            let body = format!(r#"{{"code":"0","data":{{"status":{status}}}}}"#);
            field(&read(200, body.as_bytes(), &SUBSCRIPTION, &Units::default()).unwrap(), FROZEN)
        };
        assert_eq!(frozen("0").unwrap().value, 0.0);
        assert_eq!(frozen(r#""1""#).unwrap().value, 1.0);
        assert_eq!((frozen("2"), frozen("null")), (Err(FieldFault::Unknown), Err(FieldFault::Missing)));
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
        let text = |body: &str| read(401, body.as_bytes(), &OVERVIEW, &Units::default()).unwrap_err().to_string();
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
            let used = read_ok(&body).measure(TOTAL_USED).unwrap();
            #[expect(clippy::cast_precision_loss, reason = "as a gauge has it")]
            let expected = amount as f64;
            prop_assert_eq!(used.reported, expected);
            prop_assert!(used.value >= 0.0 && used.value.is_finite());
        }

        #[test]
        fn any_bytes_at_any_status_give_a_value_or_an_error(status in 100u16..600, body: Vec<u8>) {
            for resource in Resource::ALL {
                if let Err(error) = read(status, &body, resource, &Units::default()) {
                    prop_assert!(Reason::ALL.contains(&error.reason()));
                }
            }
        }

        #[test]
        fn any_faulty_field_of_any_answer_fails_alone(resource in 0usize..3, place in 0usize..15, bad in 0usize..7) {
            let resource = Resource::ALL[resource];
            let spoilt = resource.fields[place % resource.fields.len()];
            let (bad, fault) = [
                (Value::Null, FieldFault::Missing),
                (json!(-1), FieldFault::Negative),
                (json!("-1"), FieldFault::Negative),
                (json!(0.5), FieldFault::NotANumber),
                (json!([1]), FieldFault::NotANumber),
                (json!("many"), FieldFault::NotANumber),
                (json!(u64::MAX), FieldFault::NotANumber),
            ][bad].clone();
            prop_assume!(spoilt.quantity != Quantity::OptionalGigabytes);
            let good = resource.fields.iter().map(|spec| (spec.name.to_owned(), json!(1)));
            let mut data: Map<String, Value> = good.collect();
            data.insert(spoilt.name.to_owned(), bad);
            let body = json!({ "code": 0, "data": data }).to_string();
            let answer = read(200, body.as_bytes(), resource, &Units::default()).unwrap();
            for (spec, field) in answer.fields() {
                prop_assert_eq!(field.err(), (spec == spoilt).then_some(fault), "{}", spec.name);
            }
            prop_assert_eq!(answer.faults(), Some(format!("{} {fault}", spoilt.name)));
        }
    }
}
