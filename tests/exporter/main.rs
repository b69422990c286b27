//! The built exporter as its users meet it: files and signals in, exit codes, logs and pages out.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real time is measured here")]
#![allow(unreachable_pub, reason = "one binary of many files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

mod access;
mod cases;
mod clocks;
mod collectors;
mod commands;
mod configuration;
mod conformance;
mod failures;
mod fake;
mod hostile;
mod lifecycle;
mod limits;
mod listeners;
mod open_files;
mod pages;
mod polling;
mod pressure;
mod reload;
mod scrapes;
mod scripted;
mod secrets;
mod simulator;
mod status_page;
mod support;
mod systemd;
mod transport;
mod web_file;
mod worst_day;
