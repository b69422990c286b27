//! What a scrape costs the server.
//!
//! | server | what it is |
//! | --- | --- |
//! | `floor` | the same body as a static answer, by hyper alone |
//! | `exporter` | the exporter while nothing changes |
//! | `live` | the exporter while each account is polled once a minute |
//! | `crate` | the `prometheus` crate, which gathers and encodes at each request |
//! | `tls-floor` | `floor` behind TLS |
//! | `tls-user` | `exporter` behind TLS and with a user |
//!
//! And what a miss costs: a page that has to be made, from the request to the last byte of the answer, within the process.
//!
//! `cargo bench --bench scrape -- [SECONDS]`: three interleaved rounds of every case, each for that long (1 by
//! default). Each server is a process of its own; the load comes from this one. Prints medians. With `misses` in the
//! place of the seconds, measures misses alone.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real time is measured here")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that can't go on may as well panic"
)]

#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod common;
#[path = "common/process.rs"]
mod process;
#[path = "common/tls.rs"]
mod tls;

use std::{
    convert::Infallible,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use common::Accounts;
use exporter_toolkit::{Exporter, Format, Options, WebConfig};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, header::HeaderValue, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use koodrive_exporter::{clock::WallClock, collector::KooDrive};
use prometheus::{Encoder, TextEncoder};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

/// Each with the one that it is compared with.
const SERVERS: [(&str, usize); 6] =
    [("floor", 0), ("exporter", 0), ("live", 0), ("crate", 0), ("tls-floor", 4), ("tls-user", 4)];
const ACCOUNTS: [usize; 3] = [3, 100, 4000];
const ACCOUNTS_OF_MISSES: [usize; 4] = [3, 100, 4000, 10_000];
const MISSES: usize = 50;
const CONNECTIONS: [usize; 3] = [1, 8, 64];
const ROUNDS: usize = 3;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Fails only where it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Cargo itself adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", name, accounts, coding, folder] => {
            runtime().block_on(serve(name, accounts.parse().unwrap(), coding == "gzip", Path::new(folder)));
        }
        ["misses"] => compare_misses(),
        [seconds] => compare(Duration::from_secs_f64(seconds.parse().unwrap())),
        _ => compare(Duration::from_secs(1)),
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

async fn serve(name: &str, accounts: usize, compressed: bool, folder: &Path) {
    let accounts = Accounts::polled(accounts).await;
    if matches!(name, "exporter" | "live" | "tls-user") {
        let options = Options {
            listen_addresses: vec!["127.0.0.1:0".parse().unwrap()],
            web_config: (name == "tls-user").then(|| WebConfig::load(&folder.join("web.yml")).unwrap()),
            max_requests: None,
            ..options()
        };
        let exporter = exporter(&accounts).bind(options).await.unwrap();
        println!("{}", exporter.addresses()[0]);
        if name == "live" {
            tokio::spawn(accounts.keep_polling());
        }
        return exporter.serve(std::future::pending()).await;
    }
    let routes = exporter(&accounts).routes(&options()).unwrap();
    let body = async |coding| {
        let request = Request::get("/metrics").header("accept-encoding", coding).body(()).unwrap();
        routes.answer(&request).await.into_body().collect().await.unwrap().to_bytes()
    };
    let registry = common::registry(std::str::from_utf8(&body("identity").await).unwrap());
    let body = body(if compressed { "gzip" } else { "identity" }).await;
    let is_floor = name != "crate";
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
    let tls = (name == "tls-floor").then(|| tls::acceptor(folder));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (answer, tls) = (Arc::clone(&answer), tls.clone());
        let service = service_fn(move |_| {
            let answer = Arc::clone(&answer);
            async move { Ok::<_, Infallible>(answer()) }
        });
        tokio::spawn(async move {
            match tls {
                None => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
                Some(tls) => {
                    let stream = tls.accept(stream).await.unwrap();
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
                }
            }
        });
    }
}

fn options() -> Options {
    Options { namespace: Some("koodrive_exporter".to_owned()), ..Options::default() }
}

fn exporter(accounts: &Accounts) -> Exporter {
    Exporter::new(KooDrive::new(accounts.exposition.clone(), WallClock::system(), None))
}

/// How long requests take whose page has to be made, in milliseconds.
async fn misses(accounts: usize, coding: &str) -> Vec<f64> {
    let accounts = Accounts::polled(accounts).await;
    let routes = exporter(&accounts).routes(&options()).unwrap();
    let mut latencies = Vec::new();
    for number in 0..MISSES {
        accounts.poll(number).await;
        let request = Request::get("/metrics").header("accept-encoding", coding).body(()).unwrap();
        let start = Instant::now();
        let mut body = routes.answer(&request).await.into_body();
        while let Some(frame) = body.frame().await {
            std::hint::black_box(frame.unwrap());
        }
        latencies.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    latencies.sort_by(f64::total_cmp);
    latencies
}

/// A server in a process of its own.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(name: &str, accounts: usize, coding: &str, folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["serve", name, &accounts.to_string(), coding]).arg(folder);
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

fn compare_misses() {
    println!("accounts coding   a miss, p50 ms   p99 ms");
    for accounts in ACCOUNTS_OF_MISSES {
        for coding in ["identity", "gzip"] {
            let latencies = runtime().block_on(misses(accounts, coding));
            let percentile = |percent| latencies[(latencies.len() - 1) * percent / 100];
            println!("{accounts:>8} {coding:<8} {:>14.3} {:>8.3}", percentile(50), percentile(99));
        }
    }
}

fn compare(duration: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tls = tls::write(folder.path());
    compare_misses();
    println!("accounts coding   conns server       req/s   p50 ms   p99 ms  CPU us/req  times the floor");
    for accounts in ACCOUNTS {
        for coding in ["identity", "gzip"] {
            let servers = SERVERS.map(|(name, _)| {
                let server = Server::start(name, accounts, coding, folder.path());
                let tls = name.starts_with("tls-").then(|| tls.clone());
                (server, Arc::new(Client { tls, coding }))
            });
            for (server, client) in &servers {
                runtime.block_on(client.load(&server.address, 1, Duration::from_millis(200)));
            }
            let idle = servers.each_ref().map(|(server, _)| server.memory());
            for connections in CONNECTIONS {
                let mut rounds: [Vec<Figures>; SERVERS.len()] = [const { Vec::new() }; SERVERS.len()];
                for _ in 0..ROUNDS {
                    for ((server, client), figures) in servers.iter().zip(&mut rounds) {
                        let (cpu, start) = (server.cpu(), Instant::now());
                        let mut latencies = runtime.block_on(client.load(&server.address, connections, duration));
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
                for ((name, floor), Figures { requests_per_second, p50, p99, cpu }) in SERVERS.iter().zip(medians) {
                    println!(
                        "{accounts:>8} {coding:<8} {connections:>5} {name:<9} {requests_per_second:>8.0} {p50:>8.3} {p99:>8.3} {cpu:>11.1}  {:.2}",
                        cpu / medians[*floor].cpu
                    );
                }
            }
            for (((name, _), (server, _)), (before, _)) in SERVERS.iter().zip(&servers).zip(idle) {
                let (_, peak) = server.memory();
                println!("{accounts:>8} {coding:<8} memory {name:<9} {before:.1} MiB idle, {peak:.1} MiB at its peak");
            }
        }
    }
}

fn median(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Scrapes, by TLS and as a user where it is so configured.
struct Client {
    tls: Option<TlsConnector>,
    coding: &'static str,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    async fn connect(&self, address: &str) -> Box<dyn Stream> {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect("localhost".try_into().unwrap(), stream).await.unwrap()),
        }
    }

    /// Scrapes over some connections, one after the other on each. The latencies, in milliseconds.
    async fn load(self: &Arc<Self>, address: &str, connections: usize, duration: Duration) -> Vec<f64> {
        let user = if self.tls.is_some() { tls::AUTHORIZATION } else { "" };
        let request: Arc<str> =
            format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{user}Accept-Encoding: {}\r\n\r\n", self.coding).into();
        let mut streams = Vec::new();
        for _ in 0..connections {
            streams.push(self.connect(address).await);
        }
        let end = Instant::now() + duration;
        let mut clients = JoinSet::new();
        for mut stream in streams {
            let request = Arc::clone(&request);
            clients.spawn(async move {
                let (mut latencies, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
                loop {
                    let start = Instant::now();
                    stream.write_all(request.as_bytes()).await.unwrap();
                    // TLS may keep it otherwise, where the task has done much in one go.
                    stream.flush().await.unwrap();
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
}

async fn read_answer(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) {
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
