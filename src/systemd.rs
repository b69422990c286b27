//! What systemd is told (`sd_notify(3)`): that the exporter is ready, reloads, stops, and lives.

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;

use crate::poll::Board;

/// The exporter listens and polls.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The exporter reads its configuration anew; [`ready`] follows.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// The exporter stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells of life as often as the unit's `WatchdogSec=` asks for, for as long as each poll loop lives.
pub async fn feed_watchdog(board: Arc<Board>) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| *limit > Duration::ZERO) else { return };
    let mut ticks = tokio::time::interval(limit / 3);
    loop {
        ticks.tick().await;
        if board.alive() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Elsewhere than under systemd, nobody listens.
fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
