//! How answers are read, good ones and bad ones.

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
    assert_eq!(field(&overview, TOTAL_CAPACITY), Ok(Measure { reported: 1_051_187.0, value: 1_051_187.0 * 1024.0 }));
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
    let values = [field(&overview, TOTAL_CAPACITY), field(&overview, TOTAL_USED), field(&overview, TOTAL_ALLOCATION)]
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
    let overview =
        read_ok(r#"{"data":{"totalAllocation":43.0,"totalCapacity":1.051187e6,"totalUsed":"33085606.0"},"code":0.0}"#);
    let reported = [field(&overview, TOTAL_ALLOCATION), field(&overview, TOTAL_CAPACITY), field(&overview, TOTAL_USED)];
    assert_eq!(reported.map(|field| field.unwrap().reported), [43.0, 1_051_187.0, 33_085_606.0]);
    let overview = read_ok(r#"{"data":{"totalAllocation":0.5,"totalCapacity":1e19,"totalUsed":-1.0},"code":0}"#);
    assert_eq!(field(&overview, TOTAL_ALLOCATION), Err(FieldFault::NotANumber));
    assert_eq!(field(&overview, TOTAL_CAPACITY), Err(FieldFault::NotANumber));
    assert_eq!(field(&overview, TOTAL_USED), Err(FieldFault::Negative));
}

#[test]
fn the_largest_long_is_read_and_one_more_is_not() {
    let overview = read_ok(
        r#"{"code":0,"data":{"totalCapacity":9223372036854775807,"totalUsed":9223372036854775808,"totalAllocation":"9223372036854775807","quota":1e400}}"#,
    );
    assert_eq!(field(&overview, TOTAL_CAPACITY).unwrap().value, 2f64.powi(73));
    assert_eq!(field(&overview, TOTAL_USED), Err(FieldFault::NotANumber));
    assert_eq!(field(&overview, QUOTA), Err(FieldFault::NotANumber));
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
        let body =
            format!(r#"{{"code":0,"data":{{"totalCapacity":1,"totalUsed":1,"totalAllocation":1,"quota":{json}}}}}"#);
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
fn a_refusal_has_code_message_and_request_in_either_shape() {
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
                prop_assert!(!error.reason().as_str().is_empty());
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
