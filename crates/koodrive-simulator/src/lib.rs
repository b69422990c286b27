//! KooDrive's API as a server, for the demo, for rehearsals and for tests.
//!
//! It checks every header, token and signature as the vendor's page says, by code of its own: what the
//! exporter sends is never checked by the code that made it. It can be made to fail, account by account.

mod control;
mod endpoint;
mod fault;
mod roster;
mod verify;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use exporter_toolkit::{
    ListenAddress,
    server::{self, HttpService, Peer, ServerOptions},
};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, DATE, HeaderValue},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use endpoint::{Endpoint, Field, Unit, Units};
pub use fault::{Fault, FaultyBody};
pub use roster::{Credential, Roster, SimulatedAccount};

const MAX_CONNECTIONS: usize = 20_000;

/// Returns the time of day.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A running simulator. It stops when its token is cancelled.
#[derive(Clone)]
pub struct Simulator {
    accounts: Arc<Mutex<BTreeMap<String, AccountState>>>,
    clock: Clock,
    /// By how many seconds the clock that requests are held against is ahead of `clock`.
    clock_step: Arc<AtomicI64>,
    /// All requests to the API's path.
    requests: Arc<AtomicU64>,
    started: SystemTime,
}

/// One account: what it is, how it fails, and what it was asked.
#[derive(Debug)]
struct AccountState {
    account: SimulatedAccount,
    faults: BTreeMap<Endpoint, Fault>,
    /// Put in the place of the curve's numbers.
    numbers: BTreeMap<Endpoint, Value>,
    /// The units of the overview's numbers.
    units: Units,
    last_call: SystemTime,
    record: Record,
}

/// What an account was asked and answered so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Record {
    /// All requests that named the account.
    pub requests: u64,
    /// Requests by endpoint.
    pub by_endpoint: BTreeMap<Endpoint, u64>,
    /// Answers with the overview's numbers.
    pub answered: u64,
    /// The latest numbers of the overview that were answered.
    pub latest: Option<Value>,
}

type Answer = io::Result<Response<FaultyBody>>;

impl Simulator {
    /// A simulator of the roster's accounts, whose usage grows from now on.
    #[must_use]
    pub fn new(roster: &Roster, clock: Clock) -> Self {
        let started = clock();
        let states = roster.accounts().map(|account| {
            let (faults, numbers, units) = (BTreeMap::new(), BTreeMap::new(), Units::new());
            let state = AccountState { faults, numbers, units, last_call: started, record: Record::default(), account };
            (state.account.user_id.clone(), state)
        });
        let accounts = Arc::new(Mutex::new(states.collect()));
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

    /// Makes all endpoints of an account fail until this is taken back. Unknown users are passed over.
    pub fn set_fault(&self, user_id: &str, fault: Option<&Fault>) {
        for endpoint in Endpoint::ALL {
            self.set_fault_of(user_id, endpoint, fault.cloned());
        }
    }

    /// Makes one endpoint of an account fail until this is taken back.
    pub fn set_fault_of(&self, user_id: &str, endpoint: Endpoint, fault: Option<Fault>) {
        if let Some(state) = self.states().get_mut(user_id) {
            set(&mut state.faults, endpoint, fault);
        }
    }

    /// Puts the `data` object of an account's overview in the place of its curve.
    pub fn set_numbers(&self, user_id: &str, numbers: Option<Value>) {
        self.set_numbers_of(user_id, Endpoint::Overview, numbers);
    }

    /// Puts the `data` object of the overview in the place of an account's curve, or some numbers of another endpoint in
    /// the place of the normal ones.
    pub fn set_numbers_of(&self, user_id: &str, endpoint: Endpoint, numbers: Option<Value>) {
        if let Some(state) = self.states().get_mut(user_id) {
            set(&mut state.numbers, endpoint, numbers);
        }
    }

    /// Sets the units of the numbers in an account's overview; KB where none is given.
    pub fn set_units(&self, user_id: &str, units: Units) {
        if let Some(state) = self.states().get_mut(user_id) {
            state.units = units;
        }
    }

    /// Makes another token the account's right one. Accounts that sign are passed over.
    pub fn set_token(&self, user_id: &str, token: String) {
        if let Some(state) = self.states().get_mut(user_id)
            && let Credential::Token(right) = &mut state.account.credential
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

    /// What an account was asked and answered so far.
    #[must_use]
    pub fn record(&self, user_id: &str) -> Option<Record> {
        self.states().get(user_id).map(|state| state.record.clone())
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<String, AccountState>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, endpoint: Endpoint, request: &Request<Incoming>) -> Answer {
        let (data, fault) = match self.take_request(endpoint, request) {
            Ok(taken) => taken,
            Err(refusal) => return Ok(self.envelope(refusal.status, refusal.code, &refusal.message, None)),
        };
        match fault {
            None => Ok(self.envelope(StatusCode::OK, 0, "success", Some(data))),
            Some(fault) => fault.apply(|| self.envelope(StatusCode::OK, 0, "success", Some(data))).await,
        }
    }

    /// Checks the request, and draws what its account gets now: numbers, and a fault if one is set.
    fn take_request(
        &self,
        endpoint: Endpoint,
        request: &Request<Incoming>,
    ) -> Result<(Value, Option<Fault>), verify::Refusal> {
        let now = (self.clock)();
        let user_id = verify::user_id(request)?;
        let mut states = self.states();
        let state = states.get_mut(user_id).ok_or_else(|| verify::Refusal::bad_parameter("X-User-Id is unknown"))?;
        state.record.requests += 1;
        *state.record.by_endpoint.entry(endpoint).or_default() += 1;
        let idle = now.duration_since(state.last_call).unwrap_or_default();
        verify::request(request, &state.account, self.now(), idle)?;
        state.last_call = now;
        let since_start = now.duration_since(self.started).unwrap_or_default();
        let overview = state.numbers.get(&Endpoint::Overview).cloned();
        let data = overview.unwrap_or_else(|| state.account.usage(since_start));
        let data = match (endpoint, state.numbers.get(&endpoint)) {
            (Endpoint::Overview, _) => endpoint::in_units(data, &state.units),
            (endpoint, None) => endpoint.beside(&data),
            (endpoint, Some(numbers)) => {
                let mut normal = endpoint.beside(&data);
                if let (Some(normal), Some(numbers)) = (normal.as_object_mut(), numbers.as_object()) {
                    normal.extend(numbers.clone());
                }
                normal
            }
        };
        let fault = state.faults.get(&endpoint).cloned();
        if fault.is_none() && endpoint == Endpoint::Overview {
            state.record.answered += 1;
            state.record.latest = Some(data.clone());
        }
        Ok((data, fault))
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

impl HttpService for Simulator {
    type Body = FaultyBody;
    type Error = io::Error;

    async fn call(&self, request: Request<Incoming>, _: Option<Peer>) -> Answer {
        let Some(endpoint) = Endpoint::at(request.uri().path()) else { return self.control(request).await };
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.answer(endpoint, &request).await
    }
}

fn set<T>(of: &mut BTreeMap<Endpoint, T>, endpoint: Endpoint, value: Option<T>) {
    match value {
        Some(value) => of.insert(endpoint, value),
        None => of.remove(&endpoint),
    };
}

/// A token dies when it is not used for this long; each call renews it.
const TOKEN_LIFETIME: Duration = Duration::from_mins(20);
