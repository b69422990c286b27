//! Ten thousand accounts, polled once a minute, against the simulator; and the floor: the same requests by
//! `reqwest` alone, at the same pace and concurrency.
//!
//! `cargo bench --bench scale -- [ACCOUNTS] [SECONDS] [COLLECTORS]` prints polls a second, CPU seconds a thousand polls
//! and memory of both, and their ratio; for the exporter also how even the polls are, second by second and
//! account by account. Exporter, simulator and floor are processes of their own.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real time is measured here")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that can't go on may as well panic"
)]

#[path = "common/process.rs"]
mod process;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use koodrive_simulator::{Credential, Roster};
use tokio::{sync::Semaphore, task::JoinSet};

const INTERVAL: Duration = Duration::from_mins(1);
const CONCURRENCY: usize = 256;
/// Of the collectors, in their order.
const PATHS: [&str; 3] =
    ["/koodrive/ose/v1/space/usage/overview", "/koodrive/ose/v1/service/quotaUsed", "/koodrive/ose/v1/service"];
const NAMES: [&str; 3] = ["overview", "usage", "subscription"];
const EXPORTER: &str = env!("CARGO_BIN_EXE_koodrive-exporter");

fn main() {
    // Cargo itself adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["floor", endpoint, accounts, seconds, collectors] => {
            floor(endpoint, number(accounts), number(seconds), number(collectors));
        }
        [] => compare(10_000, 120, 1),
        [accounts] => compare(number(accounts), 120, 1),
        [accounts, seconds] => compare(number(accounts), number(seconds), 1),
        [accounts, seconds, collectors, ..] => compare(number(accounts), number(seconds), number(collectors)),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// A process that ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the process starts"))
    }
}

/// What one process did in the measured time.
struct Figures {
    polls: u64,
    seconds: f64,
    cpu: f64,
    memory: f64,
    /// The fewest and the most polls in one second.
    spread: (u64, u64),
}

impl Figures {
    /// Watches for some seconds; the simulator counts.
    fn of(measured: &Process, simulator: &str, seconds: u64) -> Self {
        let (first, cpu, start) = (requests(simulator), process::cpu_seconds(&measured.0), Instant::now());
        let counts: Vec<u64> = (1..=seconds)
            .map(|second| {
                std::thread::sleep((start + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
                requests(simulator)
            })
            .collect();
        let each_second = || counts.windows(2).map(|pair| pair[1] - pair[0]);
        Self {
            spread: (each_second().min().unwrap_or_default(), each_second().max().unwrap_or_default()),
            polls: counts.last().expect("at least one second") - first,
            seconds: start.elapsed().as_secs_f64(),
            cpu: process::cpu_seconds(&measured.0) - cpu,
            memory: process::mebibytes(&measured.0, "VmRSS:"),
        }
    }

    fn cpu_per_thousand(&self) -> f64 {
        self.cpu / self.polls as f64 * 1000.0
    }

    fn print(&self, name: &str) {
        println!(
            "{name:<10} {:>7.1} polls/s  {:>7.4} CPU s/1000 polls  {:>5.2} % of one core  {:>6.1} MiB",
            self.polls as f64 / self.seconds,
            self.cpu_per_thousand(),
            self.cpu / self.seconds * 100.0,
            self.memory
        );
    }
}

/// How many requests the simulator has had from each account.
fn requests_of_accounts(simulator: &str) -> Vec<u64> {
    let state: serde_json::Value = serde_json::from_str(&get(&format!("{simulator}/simulator"))).expect("JSON");
    let accounts = state["accounts"].as_object().expect("accounts");
    accounts.values().map(|account| account["record"]["requests"].as_u64().expect("a count")).collect()
}

/// How many API requests the simulator has had.
fn requests(simulator: &str) -> u64 {
    get(&format!("{simulator}/simulator/requests")).trim().parse().expect("a count")
}

fn get(url: &str) -> String {
    let address = url.strip_prefix("http://").expect("plain HTTP");
    let (host, path) = address.split_once('/').expect("a path");
    let mut stream = std::net::TcpStream::connect(host).expect("it listens");
    std::io::Write::write_all(
        &mut stream,
        format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )
    .expect("it reads");
    let answer = std::io::read_to_string(stream).expect("it answers");
    answer.split_once("\r\n\r\n").expect("a head and a body").1.to_owned()
}

fn compare(accounts: u64, seconds: u64, collectors: u64) {
    let names = NAMES[..usize::try_from(collectors).unwrap()].join(", ");
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("k.yml");
    let mut simulate = Command::new(EXPORTER);
    simulate.args(["simulate", "--listen-address", "127.0.0.1:0", "--accounts", &accounts.to_string()]);
    simulate.args(["--interval", "60s", "--write-config"]).arg(&config);
    let mut simulate = Process(simulate.stdout(Stdio::piped()).spawn().expect("the simulator starts"));
    let mut line = String::new();
    BufReader::new(simulate.0.stdout.take().unwrap()).read_line(&mut line).expect("its address");
    let simulator = line.split_whitespace().last().unwrap().strip_suffix("/simulator").unwrap().to_owned();

    let yaml = std::fs::read_to_string(&config).expect("the configuration");
    let (_, rest) = yaml.split_once('\n').expect("a line of collectors");
    std::fs::write(&config, format!("collectors: [{names}]\n{rest}")).expect("the folder");

    println!("{accounts} accounts, each polled every {INTERVAL:?} for {names}, {CONCURRENCY} at once; for {seconds} s");
    let floor = {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let process = Process::start(
            command.args(
                ["floor", &simulator]
                    .into_iter()
                    .map(ToOwned::to_owned)
                    .chain([accounts, seconds + 10, collectors].map(|number| number.to_string())),
            ),
        );
        std::thread::sleep(Duration::from_secs(5));
        Figures::of(&process, &simulator, seconds)
    };
    let before = requests_of_accounts(&simulator);
    let exporter = {
        let mut command = Command::new(EXPORTER);
        command.arg("--config.file").arg(&config).args(["--web.listen-address", "127.0.0.1:0"]);
        let process = Process::start(&mut command);
        std::thread::sleep(Duration::from_secs(5));
        Figures::of(&process, &simulator, seconds)
    };
    let polls: Vec<u64> =
        requests_of_accounts(&simulator).iter().zip(before).map(|(after, before)| after - before).collect();
    floor.print("floor");
    exporter.print("exporter");
    println!("ratio      {:.2} times the floor's CPU a poll", exporter.cpu_per_thousand() / floor.cpu_per_thousand());
    println!("each second {} to {} polls", exporter.spread.0, exporter.spread.1);
    let (fewest, most) = (polls.iter().min().expect("accounts"), polls.iter().max().expect("accounts"));
    println!("each account {fewest} to {most} polls in {} s", seconds + 5);
}

/// `reqwest` alone: the accounts' requests, spread evenly, with a fixed token and nothing done with the answer.
fn floor(endpoint: &str, accounts: u64, seconds: u64, collectors: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let permits = Arc::new(Semaphore::new(CONCURRENCY));
        let account = Roster { accounts: 2 }.accounts().nth(1).unwrap();
        let Credential::Token(token) = account.credential else { unreachable!("the second account has a token") };
        let authorization: Arc<str> = format!("Bearer {token}").into();
        let user_id: Arc<str> = account.user_id.into();
        let urls = PATHS[..usize::try_from(collectors).unwrap()].iter().map(|path| format!("{endpoint}{path}").into());
        let mut urls = urls.collect::<Vec<Arc<str>>>().into_iter().cycle();
        let mut ticks = tokio::time::interval(INTERVAL / u32::try_from(accounts * collectors).unwrap());
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut requests = JoinSet::new();
        while Instant::now() < end {
            ticks.tick().await;
            let (client, permits) = (client.clone(), Arc::clone(&permits));
            let (authorization, user_id) = (Arc::clone(&authorization), Arc::clone(&user_id));
            let url = urls.next().unwrap();
            requests.spawn(async move {
                let _permit = permits.acquire().await.unwrap();
                let now = Timestamp::try_from(SystemTime::now() - Duration::from_secs(5)).unwrap();
                let request = client.get(&*url).header("authorization", &*authorization).header("x-user-id", &*user_id);
                let request = request.header("x-date", now.strftime("%Y%m%dT%H%M%SZ").to_string());
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), 200);
                response.bytes().await.unwrap()
            });
            while requests.try_join_next().is_some() {}
        }
    });
}
