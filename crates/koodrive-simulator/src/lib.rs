//! KooDrive's API as a server, for the demo, for rehearsals and for tests.
//!
//! It checks every header, token and signature as the vendor's page says, by code of its own: what the
//! exporter sends is never checked by the code that made it. It can be told to fail, account by account.

mod control;
mod fault;
mod roster;
mod verify;

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use exporter_toolkit::{
    ListenAddress,
    server::{self, ServerOptions},
};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, DATE, HeaderValue},
    service::Service,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use fault::{Fault, FaultyBody};
pub use roster::{Credential, Roster, SimulatedAccount};

const MAX_CONNECTIONS: usize = 20_000;

const OVERVIEW_PATH: &str = "/koodrive/ose/v1/space/usage/overview";

/// Returns the time of day.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A running simulator. It stops when its token is cancelled.
#[derive(Clone)]
pub struct Simulator {
    accounts: Arc<Mutex<BTreeMap<String, Seat>>>,
    clock: Clock,
    /// By how many seconds the clock that requests are held against is ahead of `clock`.
    clock_step: Arc<AtomicI64>,
    /// All requests to the API's path.
    requests: Arc<AtomicU64>,
    started: SystemTime,
}

/// One account's place: what it is, what befalls it, and what it was told.
#[derive(Debug)]
struct Seat {
    account: SimulatedAccount,
    fault: Option<Fault>,
    /// Put in the place of the curve's numbers.
    numbers: Option<Value>,
    last_call: SystemTime,
    record: Record,
}

/// What an account was told so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Record {
    /// All requests that named the account.
    pub requests: u64,
    /// Answers with numbers.
    pub answered: u64,
    /// The latest numbers that were answered.
    pub latest: Option<Value>,
}

type Answer = io::Result<Response<FaultyBody>>;

impl Simulator {
    /// A simulator of the roster's accounts, whose usage grows from now on.
    #[must_use]
    pub fn new(roster: &Roster, clock: Clock) -> Self {
        let started = clock();
        let seats = roster.accounts().map(|account| {
            let seat = Seat { fault: None, numbers: None, last_call: started, record: Record::default(), account };
            (seat.account.user_id.clone(), seat)
        });
        let accounts = Arc::new(Mutex::new(seats.collect()));
        Self { accounts, clock, clock_step: Arc::default(), requests: Arc::default(), started }
    }

    /// Binds `address`, and serves until `stop` is cancelled.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn bind(&self, address: &ListenAddress) -> Result<server::Bound, server::BindError> {
        server::bind(std::slice::from_ref(address), None).await
    }

    /// Serves until `stop` is cancelled.
    pub async fn serve(self, bound: server::Bound, stop: CancellationToken) {
        bound.serve(self, ServerOptions::new(MAX_CONNECTIONS), stop).await;
    }

    /// Lets `fault` befall an account until it is taken back. Unknown users are passed over.
    pub fn set_fault(&self, user_id: &str, fault: Option<Fault>) {
        if let Some(seat) = self.seats().get_mut(user_id) {
            seat.fault = fault;
        }
    }

    /// Puts the `data` object of an account's answers in the place of its curve.
    pub fn set_numbers(&self, user_id: &str, numbers: Option<Value>) {
        if let Some(seat) = self.seats().get_mut(user_id) {
            seat.numbers = numbers;
        }
    }

    /// Makes another token the account's right one. Accounts that sign are passed over.
    pub fn set_token(&self, user_id: &str, token: String) {
        if let Some(seat) = self.seats().get_mut(user_id)
            && let Credential::Token(right) = &mut seat.account.credential
        {
            *right = token;
        }
    }

    /// Sets the simulator's clock ahead by some seconds, or behind.
    pub fn set_clock_step(&self, seconds: i64) {
        self.clock_step.store(seconds, Ordering::Relaxed);
    }

    /// The time that requests are held against, and that answers bear.
    fn now(&self) -> SystemTime {
        let step = self.clock_step.load(Ordering::Relaxed);
        let (now, magnitude) = ((self.clock)(), Duration::from_secs(step.unsigned_abs()));
        if step < 0 { now - magnitude } else { now + magnitude }
    }

    /// What an account was told so far.
    #[must_use]
    pub fn record(&self, user_id: &str) -> Option<Record> {
        self.seats().get(user_id).map(|seat| seat.record.clone())
    }

    fn seats(&self) -> MutexGuard<'_, BTreeMap<String, Seat>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn overview(&self, request: &Request<Incoming>) -> Answer {
        let (data, fault) = match self.take_request(request) {
            Ok(taken) => taken,
            Err(refusal) => return Ok(self.envelope(refusal.status, refusal.code, &refusal.message, None)),
        };
        match fault {
            None => Ok(self.envelope(StatusCode::OK, 0, "success", Some(data))),
            Some(fault) => fault.befall(|| self.envelope(StatusCode::OK, 0, "success", Some(data))).await,
        }
    }

    /// Checks the request, and draws what its account is told now: numbers, and a fault if one is set.
    fn take_request(&self, request: &Request<Incoming>) -> Result<(Value, Option<Fault>), verify::Refusal> {
        let now = (self.clock)();
        let user_id = verify::user_id(request)?;
        let mut seats = self.seats();
        let seat = seats.get_mut(user_id).ok_or_else(|| verify::Refusal::bad_parameter("X-User-Id is unknown"))?;
        seat.record.requests += 1;
        let idle = now.duration_since(seat.last_call).unwrap_or_default();
        verify::request(request, &seat.account, self.now(), idle)?;
        seat.last_call = now;
        let since_start = now.duration_since(self.started).unwrap_or_default();
        let data = seat.numbers.clone().unwrap_or_else(|| seat.account.usage(since_start));
        if seat.fault.is_none() {
            seat.record.answered += 1;
            seat.record.latest = Some(data.clone());
        }
        Ok((data, seat.fault.clone()))
    }

    fn envelope(&self, status: StatusCode, code: i64, msg: &str, data: Option<Value>) -> Response<FaultyBody> {
        let mut envelope = json!({ "code": code, "msg": msg });
        if let (Some(envelope), Some(data)) = (envelope.as_object_mut(), data) {
            envelope.insert("data".to_owned(), data);
        }
        self.json(status, &envelope)
    }

    fn json(&self, status: StatusCode, body: &Value) -> Response<FaultyBody> {
        let mut response = Response::new(FaultyBody::whole(Bytes::from(body.to_string())));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(self.now())) {
            response.headers_mut().insert(DATE, date);
        }
        response
    }
}

impl Service<Request<Incoming>> for Simulator {
    type Response = Response<FaultyBody>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let simulator = self.clone();
        Box::pin(async move {
            if request.uri().path() != OVERVIEW_PATH {
                return simulator.control(request).await;
            }
            simulator.requests.fetch_add(1, Ordering::Relaxed);
            simulator.overview(&request).await
        })
    }
}

/// A token dies when it is not used for this long; each call renews it.
const TOKEN_LIFETIME: Duration = Duration::from_mins(20);
