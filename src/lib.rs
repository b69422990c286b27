//! The Prometheus exporter for Huawei Cloud KooDrive's space usage.
//!
//! `ARCHITECTURE.md` has the path of one poll and who may know whom.

/// An account as it is configured.
pub mod account;
/// Wires the modules together.
pub mod app;
/// What `check` shows.
pub mod check;
/// The command line.
pub mod cli;
/// The wall clock as a value.
pub mod clock;
/// What the exporter shows.
pub mod collector;
/// From what the user wrote to what the program may rely on.
pub mod config;
/// The exporter against the built-in simulator.
pub mod demo;
/// Whether a running exporter is healthy.
pub mod healthcheck;
/// Numbers as people read them.
pub mod human;
/// The log.
pub mod logging;
/// From what is known to exposition bytes.
pub mod metrics;
/// When each account is asked, and what is known of it.
pub mod poll;
/// The configuration, read again while the exporter runs.
pub mod reload;
/// The authorities' files that are followed.
pub mod roots;
/// Which of several exporters polls an account.
pub mod shard;
/// `/`: what an operator wants to see in five seconds.
mod status_page;
/// What is reported to systemd of the exporter's state.
pub mod systemd;
