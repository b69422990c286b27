//! What is reported to systemd, by a socket as systemd has it.

use std::{os::unix::net::UnixDatagram, sync::mpsc, time::Duration};

use crate::support::{Exporter, Files, PATIENCE, Upstream, binary};

/// Systemd's end of the notifications. It reads each at once, as systemd does: the queue of a socket is short.
struct Manager(mpsc::Receiver<String>);

impl Manager {
    fn listen(socket: UnixDatagram) -> Self {
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length) = socket.recv(&mut buffer)
                && sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_ok()
            {}
        });
        Self(messages)
    }

    /// Waits for a message that has this line.
    fn received(&self, line: &str) -> String {
        loop {
            let message = self.0.recv_timeout(PATIENCE).expect("the message comes");
            if message.lines().any(|sent| sent.starts_with(line)) {
                return message;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_gets_readiness_life_reloads_and_the_stop() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let manager = Manager::listen(UnixDatagram::bind(files.path("notify")).unwrap());
    let mut command = binary();
    command
        .args(["--web.listen-address", "127.0.0.1:0", "--config.file"])
        .arg(&config)
        .env("NOTIFY_SOCKET", files.path("notify"))
        .env("WATCHDOG_USEC", Duration::from_millis(300).as_micros().to_string());
    let mut exporter = Exporter::spawn(&mut command).await;
    assert!(manager.received("READY=1").contains("STATUS="), "with a word for people");
    manager.received("WATCHDOG=1");
    exporter.line(|line| line.contains("message=polling")).await;
    exporter.signal("-HUP");
    assert!(manager.received("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.received("READY=1");
    exporter.signal("-TERM");
    manager.received("STOPPING=1");
    assert_eq!(exporter.exit_code().await, Some(0));
}
