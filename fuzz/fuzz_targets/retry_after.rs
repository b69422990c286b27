//! Any header value is a wait or none, at any time of the server.

#![no_main]

use std::time::{Duration, UNIX_EPOCH};

use koodrive::retry_after;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, u32)| {
    let (value, server_now) = input;
    let _ = retry_after::parse(value, Some(UNIX_EPOCH + Duration::from_secs(server_now.into())), UNIX_EPOCH);
});
