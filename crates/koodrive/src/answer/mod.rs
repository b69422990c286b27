//! From an answer's status and bytes to an [`Answer`]: pure.
//!
//! Two shapes are read: the API's own envelope, `{"code": 0, "msg": "...", "data": {...}}`, and that of
//! the gateway before it, `{"error_code": "APIGW....", "error_msg": "...", "request_id": "..."}`.

use serde_json::{Map, Value};

use crate::body::json_object;
use crate::error::{INNER_INVOCATION_FAILED, PollError, Reason, Refusal};
use crate::resource::{FieldSpec, Quantity, Resource};
use crate::unit::Unit;
use crate::units::Units;

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
    #[error("is not a documented value")]
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
            Quantity::Flag => Some(measure(value, unit).and_then(flag)),
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

fn flag(number: Measure) -> Field {
    if number.value <= 1.0 { Ok(number) } else { Err(FieldFault::Unknown) }
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
mod tests;
