//! Encoding, compressing, decoding and signing, each by itself.
//!
//! `cargo bench --bench encoding`

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real time is measured here")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that can't go on may as well panic"
)]

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;

use divan::{Bencher, counter::BytesCount};
use exporter_toolkit::{Coding, Format};
use koodrive::{Units, answer, signature::Signed};
use prometheus::{Encoder, TextEncoder};

const ACCOUNTS: [usize; 4] = [3, 100, 4000, 10_000];

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

#[divan::bench(args = ACCOUNTS)]
fn encode_text(bencher: Bencher<'_, '_>, accounts: usize) {
    encode(bencher, accounts, Format::Text0);
}

#[divan::bench(args = ACCOUNTS)]
fn encode_openmetrics(bencher: Bencher<'_, '_>, accounts: usize) {
    encode(bencher, accounts, Format::OpenMetrics);
}

fn encode(bencher: Bencher<'_, '_>, accounts: usize, format: Format) {
    let exposition = common::exposition(accounts);
    let length = exposition.encode(format, Coding::Identity, common::now()).0.concat().len();
    bencher.counter(BytesCount::new(length)).bench(|| exposition.encode(format, Coding::Identity, common::now()));
}

/// The same series from a registry of the `prometheus` crate, gathered and encoded at each request.
#[divan::bench(args = ACCOUNTS)]
fn encode_with_the_prometheus_crate(bencher: Bencher<'_, '_>, accounts: usize) {
    let text = common::exposition(accounts).encode(Format::Text0, Coding::Identity, common::now()).0.concat();
    let registry = common::registry(std::str::from_utf8(&text).unwrap());
    bencher.counter(BytesCount::new(text.len())).bench(|| {
        let mut out = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut out).unwrap();
        out
    });
}

#[divan::bench(args = [1, 2, 3, 4, 6, 9])]
fn gzip_of_4000_accounts(bencher: Bencher<'_, '_>, level: u32) {
    let text = common::exposition(4000).encode(Format::Text0, Coding::Identity, common::now()).0.concat();
    println!("level {level}: {} of {} bytes", common::gzip(&text, level).len(), text.len());
    bencher.counter(BytesCount::new(text.len())).bench(|| common::gzip(&text, level));
}

#[divan::bench]
fn decode_an_answer() -> bool {
    let body =
        br#"{"data":{"totalAllocation":43,"totalCapacity":1051187,"totalUsed":33085606},"code":0,"msg":"success"}"#;
    answer::read(200, divan::black_box(body), &koodrive::overview::OVERVIEW, &Units::default()).is_ok()
}

#[divan::bench]
fn sign_a_request() -> String {
    let signed = Signed {
        host: "intl.myhuaweicloud-koodrive.com",
        path: "/koodrive/ose/v1/space/usage/overview",
        x_date: divan::black_box("20251103T070140Z"),
        user_id: "1505084218764547200",
    };
    signed.authorization("an-app", "example-app-secret")
}
