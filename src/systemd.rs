//! What is reported to systemd (`sd_notify(3)`): that the exporter is ready, reloads, stops, and lives.

use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use sd_notify::NotifyState;
use tracing::warn;

use crate::poll::AccountStore;

/// Messages that wait while systemd does not read.
const MAX_WAITING: usize = 16;

type Message = Vec<NotifyState<'static>>;

/// Sends messages to systemd from a thread of its own, as sending blocks while systemd does not read. What is too much
/// then is dropped. Elsewhere than under systemd, there is nobody to send to.
#[derive(Debug, Clone)]
pub struct Systemd(Option<SyncSender<Message>>);

impl Systemd {
    /// The one that `NOTIFY_SOCKET` names.
    #[must_use]
    pub fn of_environment() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        let (sender, messages) = sync_channel::<Message>(MAX_WAITING);
        let send = move || {
            let mut failed = false;
            for message in messages {
                let sent = sd_notify::notify(&message);
                if let (Err(error), false) = (&sent, failed) {
                    warn!(%error, "cannot notify systemd");
                }
                failed = sent.is_err();
            }
        };
        Self(thread::Builder::new().name("systemd".to_owned()).spawn(send).ok().map(|_| sender))
    }

    /// The exporter listens and polls.
    pub fn ready(&self) {
        self.send(vec![NotifyState::Ready, NotifyState::Status("polling")]);
    }

    /// The exporter reads its configuration again; [`ready`](Self::ready) follows.
    pub fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.send(vec![NotifyState::Reloading, now]);
        }
    }

    /// The exporter stops.
    pub fn stopping(&self) {
        self.send(vec![NotifyState::Stopping]);
    }

    /// Sends a heartbeat as often as the unit's `WatchdogSec=` asks for, for as long as each poll loop lives.
    pub async fn feed_watchdog(self, store: Arc<AccountStore>) {
        let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| *limit > Duration::ZERO) else { return };
        let mut ticks = tokio::time::interval(limit / 3);
        loop {
            ticks.tick().await;
            if store.alive() {
                self.send(vec![NotifyState::Watchdog]);
            }
        }
    }

    fn send(&self, message: Message) {
        if let Some(sender) = &self.0 {
            let _ = sender.try_send(message);
        }
    }
}
