//! The simulator's own interface, beside the API's path:
//!
//! - `GET /simulator` tells what each account was told so far;
//! - `PUT /simulator/accounts/<user id>` with `{"fault": {...}, "numbers": {...}}` makes an account fail
//!   or answer given numbers from now on; a part that is absent or null goes back to normal.

use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, StatusCode, body::Incoming};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Fault, Simulator};

const MAX_ORDER_BYTES: usize = 64 * 1024;

/// What is to befall an account from now on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    fault: Option<Fault>,
    numbers: Option<Value>,
}

impl Simulator {
    pub(super) async fn control(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str(), path.strip_prefix("/simulator/accounts/")) {
            (&Method::GET, "/simulator", _) => Ok(self.json(StatusCode::OK, &self.records())),
            (&Method::PUT, _, Some(user_id)) => Ok(self.obey(user_id, request.into_body()).await),
            _ => Ok(self.json(StatusCode::NOT_FOUND, &json!({ "error": "see GET /simulator" }))),
        }
    }

    async fn obey(&self, user_id: &str, body: Incoming) -> hyper::Response<super::fault::FaultyBody> {
        let body = Limited::new(body, MAX_ORDER_BYTES).collect().await.map(http_body_util::Collected::to_bytes);
        let order = body.ok().and_then(|body| serde_json::from_slice::<Order>(&body).ok());
        let (status, answer) = match order {
            None => (StatusCode::BAD_REQUEST, json!({ "error": "the body is not {\"fault\": ..., \"numbers\": ...}" })),
            Some(_) if self.record(user_id).is_none() => (StatusCode::NOT_FOUND, json!({ "error": "no such user" })),
            Some(order) => {
                self.set_fault(user_id, order.fault);
                self.set_numbers(user_id, order.numbers);
                (StatusCode::OK, json!({}))
            }
        };
        self.json(status, &answer)
    }

    fn records(&self) -> Value {
        let accounts: serde_json::Map<String, Value> = self
            .seats()
            .iter()
            .map(|(user_id, seat)| {
                let told = json!({ "alias": seat.account.alias, "fault": seat.fault, "record": seat.record });
                (user_id.clone(), told)
            })
            .collect();
        json!({ "accounts": accounts })
    }
}
