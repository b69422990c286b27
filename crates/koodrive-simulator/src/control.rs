//! The simulator's own interface, beside the API's path:
//!
//! - `GET /simulator` shows what each account was asked so far, and `GET /simulator/requests` the number of
//!   requests to the API alone;
//! - `PUT /simulator/accounts/<user id>` with `{"fault": {...}, "numbers": {...}}` makes an account fail
//!   or answer given numbers from now on; a part that is absent or null goes back to normal. With `"endpoint":
//!   "usage"` or another one, only that endpoint fails and has the numbers; without, all endpoints fail, and the
//!   numbers are the overview's. `"carrier_edition": true` makes the endpoints beside the overview answer 404,
//!   `"units": {"totalCapacity": "GB"}` gives numbers of the overview in other units, and `"token": "..."` makes
//!   another token the right one;
//! - `PUT /simulator/clock` with `{"seconds_ahead": 1200}` sets the simulator's clock.

use std::sync::atomic::Ordering;

use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Answer, Endpoint, Fault, Simulator, Units, fault::FaultyBody};

const MAX_ORDER_BYTES: usize = 64 * 1024;

/// How an account fails from now on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    endpoint: Option<Endpoint>,
    fault: Option<Fault>,
    numbers: Option<Value>,
    #[serde(default)]
    carrier_edition: bool,
    units: Option<Units>,
    token: Option<String>,
}

/// How far the simulator's clock is ahead.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    seconds_ahead: i32,
}

impl Simulator {
    pub(super) async fn control(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str(), path.strip_prefix("/simulator/accounts/")) {
            (&Method::GET, "/simulator", _) => Ok(self.json(StatusCode::OK, &self.records())),
            (&Method::GET, "/simulator/requests", _) => {
                Ok(self.json(StatusCode::OK, &self.requests.load(Ordering::Relaxed).into()))
            }
            (&Method::PUT, "/simulator/clock", _) => Ok(self.set_clock(request.into_body()).await),
            (&Method::PUT, _, Some(user_id)) => Ok(self.obey(user_id, request.into_body()).await),
            _ => Ok(self.json(StatusCode::NOT_FOUND, &json!({ "error": "see GET /simulator" }))),
        }
    }

    async fn set_clock(&self, body: Incoming) -> Response<FaultyBody> {
        let Some(clock) = read::<Clock>(body).await else {
            return self.json(StatusCode::BAD_REQUEST, &json!({ "error": "the body is not {\"seconds_ahead\": ...}" }));
        };
        self.set_clock_step(clock.seconds_ahead.into());
        self.json(StatusCode::OK, &json!({}))
    }

    async fn obey(&self, user_id: &str, body: Incoming) -> Response<FaultyBody> {
        let (status, answer) = match read::<Order>(body).await {
            None => (StatusCode::BAD_REQUEST, json!({ "error": "the body is not {\"fault\": ..., \"numbers\": ...}" })),
            Some(_) if self.record(user_id).is_none() => (StatusCode::NOT_FOUND, json!({ "error": "no such user" })),
            Some(order) => {
                if let Some(endpoint) = order.endpoint {
                    self.set_fault_of(user_id, endpoint, order.fault);
                } else {
                    self.set_fault(user_id, order.fault.as_ref());
                    for endpoint in Endpoint::ALL {
                        self.set_numbers_of(user_id, endpoint, None);
                    }
                }
                if order.carrier_edition {
                    for endpoint in [Endpoint::Usage, Endpoint::Subscription] {
                        self.set_fault_of(user_id, endpoint, Some(Fault::Status { status: 404 }));
                    }
                }
                self.set_numbers_of(user_id, order.endpoint.unwrap_or(Endpoint::Overview), order.numbers);
                if order.endpoint.is_none() || order.units.is_some() {
                    self.set_units(user_id, order.units.unwrap_or_default());
                }
                if let Some(token) = order.token {
                    self.set_token(user_id, token);
                }
                (StatusCode::OK, json!({}))
            }
        };
        self.json(status, &answer)
    }

    fn records(&self) -> Value {
        let accounts: serde_json::Map<String, Value> = self
            .states()
            .iter()
            .map(|(user_id, state)| {
                let shown = json!({ "alias": state.account.alias, "faults": state.faults, "record": state.record });
                (user_id.clone(), shown)
            })
            .collect();
        json!({ "requests": self.requests.load(Ordering::Relaxed), "accounts": accounts })
    }
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Option<T> {
    let body = Limited::new(body, MAX_ORDER_BYTES).collect().await.ok()?.to_bytes();
    serde_json::from_slice(&body).ok()
}
