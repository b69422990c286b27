//! KooDrive's API: one request, one answer. Each [`Resource`] is one of its endpoints.
//!
//! The rules come from the vendor's
//! API reference ("Querying Space Usage Overview" and the pages on authentication); where those pages
//! disagree, these readings are used:
//!
//! - HTTP 401 is `auth`. So are 400 (the page says "authentication failed") and 403 in the API's own shape, except for
//!   the codes that the vendor lists, which are `api_error`. In no such shape they are somebody else's: `http_status`.
//! - An answer is read whether or not it is compressed, has a byte order mark, or is in another charset than UTF-8.
//! - An answer with `code` 0 and without `data` is `invalid_data`; so is one with a negative or missing
//!   number, which still gives its good numbers.
//! - A connection that breaks before the answer is whole is `connect`; a body above 64 KiB is `decode`.
//! - `X-Date` is 5 seconds in the past, as it must never be later than the server's clock. After a refusal it is tried by
//!   the clock that the refusal's `Date` header shows, and stays so while that is accepted.
//! - A failing account is never polled less often than every third interval (or as `Retry-After` asks, up to an hour),
//!   and one whose token still lives at least every 19 minutes.
//! - A token that holds a space, or begins with `Bearer+`, bears a scheme of its own and goes out unchanged.

use std::sync::{Mutex, MutexGuard, PoisonError};

mod account;
pub mod answer;
mod body;
mod client;
mod credential;
mod endpoint;
mod error;
mod exchange;
mod keyed_limiter;
mod no_body;
pub mod overview;
mod redaction;
mod resolver;
mod resource;
pub mod retry_after;
mod secret;
mod server_clock;
pub mod signature;
pub mod subscription;
mod tls;
mod transport;
mod unit;
mod unit_check;
mod units;
pub mod usage;

pub use account::{Account, AppId, Credential, Language, Proxy, Transport, UserId};
pub use answer::{Answer, Field, FieldFault, Measure};
pub use client::{Client, Remedy, tls_error};
pub use credential::{CredentialRead, SecretError};
pub use endpoint::Endpoint;
pub use error::{ConnectFailure, PollError, Reason, Refusal, TransportError};
pub use exchange::{Exchange, Head, Stage};
pub use resource::{FieldSpec, Quantity, Resource};
pub use secret::{Secret, SecretSource};
pub use server_clock::{Clock, Correction, ServerClock};
pub use transport::{ConnectionKey, HttpClient, build as build_http};
pub use unit::Unit;
pub use unit_check::{UnitVerdict, compare_units};
pub use units::Units;

/// What it guards is whole after a panic, too.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
