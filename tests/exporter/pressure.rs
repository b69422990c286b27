//! Scrapes are answered although other clients stall, nobody reads the log, or the init system does not read.

use std::{
    io::{Read, Write},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use koodrive_simulator::Roster;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

use crate::{
    access::{Scene, TLS},
    limits::{END_HEADERS, END_STREAM, PREFACE, frame},
    support::{Exporter, Files, PATIENCE, Upstream, binary},
};

/// An exporter of many accounts that cannot be polled, and so change often.
async fn many_accounts(files: &Files, accounts: u64, flags: &[&str]) -> Exporter {
    let config = Roster { accounts }.configuration("http://127.0.0.1:1", "10s");
    Exporter::start(&files.write("k.yml", config), flags).await
}

async fn connect(exporter: &Exporter) -> TcpStream {
    TcpStream::connect(exporter.url.strip_prefix("http://").unwrap()).await.unwrap()
}

#[tokio::test]
async fn aborted_scrapes_leave_nothing_behind() {
    let files = Files::new();
    let exporter = many_accounts(&files, 3000, &[]).await;
    for _ in 0..1000 {
        let mut stream = connect(&exporter).await;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        // The request is read meanwhile; a page takes longer.
        sleep(Duration::from_millis(2)).await;
    }
    let next = timeout(PATIENCE, exporter.get("/metrics")).await;
    assert_eq!(next.expect("each aborted scrape would have cost an encoding").status, 200);
}

#[tokio::test]
async fn readers_that_stall_do_not_refuse_scrapes() {
    let files = Files::new();
    let exporter = many_accounts(&files, 3000, &[]).await;
    let address: std::net::SocketAddr = exporter.url.strip_prefix("http://").unwrap().parse().unwrap();
    let mut stalled = Vec::new();
    for _ in 0..60 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(1024).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stalled.push(socket);
    }
    for mut socket in &stalled {
        socket.read_exact(&mut [0]).unwrap();
    }
    for _ in 0..5 {
        assert_eq!(timeout(PATIENCE, exporter.get("/metrics")).await.unwrap().status, 200);
    }
}

/// Memory that 40 HTTP/2 connections cost which ask for a page 32 times each and take nothing of it.
async fn growth_by_stalled_streams(path: &str, accept: Option<&str>) -> u64 {
    let scene = Scene::with_accounts(1000, TLS, &[]).await;
    let page = scene.client(None).get(scene.url(path)).header("accept", accept.unwrap_or("*/*")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let before = scene.exporter.memory();
    let literal = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [&[0][..], &text(name), &text(value)].concat()
    };
    let mut head = [&b"\x82\x87"[..], &literal(":path", path), &literal(":authority", "x")].concat();
    head.extend(accept.map(|accept| literal("accept", accept)).unwrap_or_default());
    let mut stalled = Vec::new();
    for _ in 0..40 {
        let mut stream = scene.connect_h2().await;
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await.unwrap();
        for id in (0..32).map(|index| 2 * index + 1) {
            stream.write_all(&frame(1, END_STREAM | END_HEADERS, id, &head)).await.unwrap();
        }
        stalled.push(stream);
    }
    for stream in &mut stalled {
        // The heads of the answers come, and nothing of their bodies.
        assert!(timeout(PATIENCE, stream.read_buf(&mut Vec::new())).await.unwrap().unwrap() > 0);
    }
    let page = scene.client(None).get(scene.url("/metrics")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    scene.exporter.memory().saturating_sub(before)
}

#[tokio::test]
async fn streams_that_stall_share_each_page() {
    for (path, accept) in [("/", None), ("/health", Some("application/json")), ("/metrics", None)] {
        let growth = growth_by_stalled_streams(path, accept).await;
        assert!(growth < 40 * 1024 * 1024, "{path} grew by {growth} bytes");
    }
}

#[tokio::test]
async fn details_of_health_are_bounded_by_the_rate_limit_without_users_too() {
    let scene = Scene::start(&format!("{TLS}rate_limit: {{ interval: 1h, burst: 2 }}"), &[]).await;
    let ask = async || {
        let request = scene.client(None).get(scene.url("/health")).header("accept", "application/json");
        request.send().await.unwrap().text().await.unwrap()
    };
    assert!(ask().await.contains("accounts") && ask().await.contains("accounts"));
    assert_eq!(ask().await, "{\"healthy\":true}\n");
}

/// An exporter on a Unix socket, whose output nobody reads.
struct Unread {
    child: Child,
    socket: PathBuf,
}

impl Unread {
    fn spawn(files: &Files, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let socket = files.path("k.sock");
        let mut command = binary();
        command.arg("--config.file").arg(files.write("k.yml", config));
        command.args(["--web.listen-address", &format!("unix:{}", socket.display()), "--log.level", "debug"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        change(&mut command);
        Self { child: command.spawn().unwrap(), socket }
    }

    /// Scrapes until `wanted` holds.
    async fn scrape_until(&self, wanted: impl Fn(&str) -> bool) {
        let scrapes = async {
            loop {
                let Ok(mut stream) = UnixStream::connect(&self.socket).await else { continue };
                let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                let mut answer = String::new();
                stream.write_all(request).await.unwrap();
                stream.read_to_string(&mut answer).await.unwrap();
                if wanted(&answer) {
                    return;
                }
            }
        };
        timeout(PATIENCE, scrapes).await.expect("scrapes are answered");
    }

    async fn stops_on_sigterm(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let stopped = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(timeout(PATIENCE, stopped).await.expect("it stops"), Some(0));
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_neither_scrapes_nor_the_stop_and_lines_are_counted() {
    let files = Files::new();
    let config = Roster { accounts: 250 }.configuration("http://127.0.0.1:1", "100ms");
    let exporter = Unread::spawn(&files, &config, |_| {});
    exporter.scrape_until(|answer| dropped_lines(answer) > Some(0)).await;
    exporter.stops_on_sigterm().await;
}

fn dropped_lines(answer: &str) -> Option<u64> {
    let line = answer.lines().find_map(|line| line.strip_prefix("koodrive_exporter_log_messages_dropped_total "));
    line?.parse().ok()
}

#[tokio::test]
async fn a_log_on_a_full_device_is_counted_line_by_line() {
    let files = Files::new();
    let config = Roster { accounts: 3 }.configuration("http://127.0.0.1:1", "15m");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let exporter = Unread::spawn(&files, &config, |command| {
        command.stderr(full);
    });
    let logged = |answer: &str| {
        let counts = answer.lines().filter(|line| line.starts_with("koodrive_exporter_log_messages_total{"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    exporter.scrape_until(|answer| logged(answer) > 3 && dropped_lines(answer) == Some(logged(answer))).await;
    exporter.stops_on_sigterm().await;
}

#[tokio::test]
async fn an_init_system_that_does_not_read_holds_up_neither_scrapes_nor_the_stop() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let path = files.path("notify");
    let _unread = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"full", &path).is_ok() {}
    let exporter = Unread::spawn(&files, &upstream.configuration("1s"), |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000").stderr(Stdio::null());
    });
    exporter.scrape_until(|answer| answer.contains("koodrive_up{account=\"production\"} 1\n")).await;
    exporter.stops_on_sigterm().await;
}

#[test]
fn an_error_on_a_full_device_keeps_its_exit_code() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = binary();
    command.args(["--config.file", "/nonexistent.yml"]).stderr(full);
    assert_eq!(command.status().unwrap().code(), Some(3));
}

#[tokio::test]
async fn wrong_command_line_ends_though_nobody_reads_standard_error() {
    let (_unread, mut full) = std::io::pipe().unwrap();
    full.write_all(&vec![b'x'; 65_536]).unwrap();
    let mut command = binary();
    command.arg("--nonsense").stderr(full);
    let ended = tokio::task::spawn_blocking(move || command.status().unwrap());
    let status = timeout(PATIENCE, ended).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(2));
}
