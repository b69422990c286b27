//! What a scrape costs the server, against two others on the same body: a static answer by hyper alone (the
//! floor), and the `prometheus` crate gathering and encoding at each request.
//!
//! `cargo bench --bench scrape -- [SECONDS]`: three interleaved rounds of every case, each for that long (1 by
//! default). Each server is a process of its own; the load comes from this one. Prints medians.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that can't go on may as well panic"
)]

mod common;
#[path = "common/process.rs"]
mod process;

use std::{
    convert::Infallible,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, header::HeaderValue, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use koodrive_exporter::{
    clock::WallClock,
    config::Web,
    metrics::Format,
    web::{
        Guard, Routes,
        server::{self, ServerOptions},
    },
};
use prometheus::{Encoder, TextEncoder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

const SERVERS: [&str; 3] = ["floor", "exporter", "crate"];
const ACCOUNTS: [usize; 3] = [3, 100, 4000];
const CONNECTIONS: [usize; 3] = [1, 8, 64];
const ROUNDS: usize = 3;

fn main() {
    // Cargo itself adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", name, accounts, coding] => serve(name, accounts.parse().unwrap(), coding == "gzip"),
        [seconds] => compare(Duration::from_secs_f64(seconds.parse().unwrap())),
        _ => compare(Duration::from_secs(1)),
    }
}

fn serve(name: &str, accounts: usize, compressed: bool) {
    let exposition = common::exposition(accounts);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if name == "exporter" {
            let bound = server::bind(&["127.0.0.1:0".parse().unwrap()], None).await.unwrap();
            println!("{}", bound.addresses()[0]);
            let (clock, stop) = (WallClock::system(), CancellationToken::new());
            let web = Web { max_requests: None, ..Web::default() };
            let guard = Arc::new(Guard::new(None).unwrap());
            let options =
                ServerOptions { guard: Some(Arc::clone(&guard)), max_connections: web.max_connections, own: None };
            let routes = Arc::new(Routes::new(exposition, &web, guard, &clock, None, stop.clone()).unwrap());
            return bound.serve(routes, options, stop).await;
        }
        let text = exposition.encode(Format::Text0, common::now()).0.concat();
        let registry = common::registry(std::str::from_utf8(&text).unwrap());
        let body = if compressed { Bytes::from(common::gzip(&text, 2)) } else { Bytes::from(text) };
        let is_floor = name == "floor";
        let answer = Arc::new(move || {
            let body = if is_floor {
                body.clone()
            } else {
                let mut text = Vec::new();
                TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
                if compressed { common::gzip(&text, 2).into() } else { text.into() }
            };
            let mut response = Response::new(Full::new(body));
            let content_type = HeaderValue::from_static(Format::Text0.content_type());
            response.headers_mut().insert("content-type", content_type);
            if compressed {
                response.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
            }
            response
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let answer = Arc::clone(&answer);
            let service = service_fn(move |_| {
                let answer = Arc::clone(&answer);
                async move { Ok::<_, Infallible>(answer()) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

/// A server in a process of its own.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(name: &str, accounts: usize, coding: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["serve", name, &accounts.to_string(), coding]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().to_owned() }
    }

    fn cpu(&self) -> f64 {
        process::cpu_seconds(&self.child)
    }

    /// Resident memory now and at its peak, in mebibytes.
    fn memory(&self) -> (f64, f64) {
        (process::mebibytes(&self.child, "VmRSS:"), process::mebibytes(&self.child, "VmHWM:"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One server's figures in one case.
#[derive(Clone, Copy)]
struct Figures {
    requests_per_second: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
}

fn compare(duration: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("accounts coding   conns server      req/s   p50 ms   p99 ms  CPU us/req  times the floor");
    for accounts in ACCOUNTS {
        for coding in ["identity", "gzip"] {
            let servers = SERVERS.map(|name| Server::start(name, accounts, coding));
            for server in &servers {
                runtime.block_on(load(&server.address, coding, 1, Duration::from_millis(200)));
            }
            let idle = servers.each_ref().map(Server::memory);
            for connections in CONNECTIONS {
                let mut rounds: [Vec<Figures>; 3] = [const { Vec::new() }; 3];
                for _ in 0..ROUNDS {
                    for (server, figures) in servers.iter().zip(&mut rounds) {
                        let (cpu, start) = (server.cpu(), Instant::now());
                        let mut latencies = runtime.block_on(load(&server.address, coding, connections, duration));
                        let seconds = start.elapsed().as_secs_f64();
                        latencies.sort_by(f64::total_cmp);
                        let percentile = |percent| latencies[(latencies.len() - 1) * percent / 100];
                        let requests = latencies.len() as f64;
                        figures.push(Figures {
                            requests_per_second: requests / seconds,
                            p50: percentile(50),
                            p99: percentile(99),
                            cpu: (server.cpu() - cpu) * 1_000_000.0 / requests,
                        });
                    }
                }
                let medians = rounds.map(|figures| Figures {
                    requests_per_second: median(&figures, |figures| figures.requests_per_second),
                    p50: median(&figures, |figures| figures.p50),
                    p99: median(&figures, |figures| figures.p99),
                    cpu: median(&figures, |figures| figures.cpu),
                });
                for (name, Figures { requests_per_second, p50, p99, cpu }) in SERVERS.iter().zip(medians) {
                    println!(
                        "{accounts:>8} {coding:<8} {connections:>5} {name:<8} {requests_per_second:>8.0} {p50:>8.3} {p99:>8.3} {cpu:>11.1}  {:.2}",
                        cpu / medians[0].cpu
                    );
                }
            }
            for ((name, server), (before, _)) in SERVERS.iter().zip(&servers).zip(idle) {
                let (_, peak) = server.memory();
                println!("{accounts:>8} {coding:<8} memory {name:<8} {before:.1} MiB idle, {peak:.1} MiB at its peak");
            }
        }
    }
}

fn median(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Scrapes over some connections, one after the other on each. The latencies, in milliseconds.
async fn load(address: &str, coding: &str, connections: usize, duration: Duration) -> Vec<f64> {
    let request: Arc<str> = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {coding}\r\n\r\n").into();
    let end = Instant::now() + duration;
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let request = Arc::clone(&request);
        clients.spawn(async move {
            let (mut latencies, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
            loop {
                let start = Instant::now();
                stream.write_all(request.as_bytes()).await.unwrap();
                read_answer(&mut stream, &mut buffer).await;
                latencies.push(start.elapsed().as_secs_f64() * 1000.0);
                if Instant::now() >= end {
                    return latencies;
                }
            }
        });
    }
    clients.join_all().await.concat()
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    let head = loop {
        filled += stream.read(&mut buffer[filled..]).await.unwrap();
        if let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = std::str::from_utf8(&buffer[..head]).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let length = text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut left = length.parse::<usize>().unwrap() - (filled - head);
    while left > 0 {
        left -= stream.read(buffer).await.unwrap();
    }
}
