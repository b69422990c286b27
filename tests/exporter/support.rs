//! The exporter as a child process, and the files, servers and requests it meets.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use koodrive_exporter::clock::WallClock;
use koodrive_simulator::{Roster, Simulator};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Nothing that is waited for takes nearly as long; a test that hangs is a failed one.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_koodrive-exporter"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// What a scraper or a browser is here.
pub fn client() -> reqwest::Client {
    // Fails only where it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A folder with the files of one test.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        // A file with secrets that everybody may read is worth a warning.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A running exporter. It is killed when it goes out of scope.
pub struct Exporter {
    child: Child,
    lines: UnboundedReceiver<String>,
    seen: Vec<String>,
    /// `http://127.0.0.1:port`
    pub url: String,
}

impl Exporter {
    /// Starts it on a free port with the configuration file, and waits until it listens.
    pub async fn start(config: &Path, flags: &[&str]) -> Self {
        let mut command = binary();
        command.arg("--config.file").arg(config).args(["--web.listen-address", "127.0.0.1:0"]).args(flags);
        Self::spawn(&mut command).await
    }

    pub async fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = unbounded_channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut exporter = Self { child, lines, seen: Vec::new(), url: String::new() };
        let line = exporter.line(|line| line.contains("listening")).await;
        let address = line.split("127.0.0.1:").nth(1).unwrap();
        let port: String = address.chars().take_while(char::is_ascii_digit).collect();
        exporter.url = format!("http://127.0.0.1:{port}");
        exporter
    }

    /// Waits for the first log line from here on that `wanted` takes.
    pub async fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let search = async {
            while let Some(line) = self.lines.recv().await {
                self.seen.push(line.clone());
                if wanted(&line) {
                    return Some(line);
                }
            }
            None
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(Some(line)) => line,
            _ => panic!("the line never came; those that came:\n{}", self.seen.join("\n")),
        }
    }

    /// Waits for one line of each account, in whatever order they come.
    pub async fn line_of_each(&mut self, accounts: &[&str], message: &str) {
        let mut waiting: Vec<&str> = accounts.to_vec();
        while !waiting.is_empty() {
            let line = self.line(|line| line.contains(message)).await;
            waiting.retain(|account| !line.contains(&format!("account={account} ")));
        }
    }

    /// All lines so far.
    pub fn log(&mut self) -> String {
        while let Ok(line) = self.lines.try_recv() {
            self.seen.push(line);
        }
        self.seen.join("\n")
    }

    pub async fn get(&self, path: &str) -> Page {
        Page::of(client().get(format!("{}{path}", self.url)).send().await.unwrap()).await
    }

    /// The resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for the end, and returns the exit code.
    pub async fn exit_code(mut self) -> Option<i32> {
        // The log ends when the process does.
        let drain = async { while self.lines.recv().await.is_some() {} };
        tokio::time::timeout(PATIENCE, drain).await.expect("the exporter ends");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer of the exporter.
pub struct Page {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl Page {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.text().await.unwrap() }
    }

    /// The value of a series, written as in the exposition.
    pub fn value(&self, series: &str) -> Option<f64> {
        let line =
            self.body.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        Some(line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The simulator, in this process.
pub struct Upstream {
    pub simulator: Simulator,
    pub roster: Roster,
    pub url: String,
    _stop: DropGuard,
}

impl Upstream {
    pub async fn start(accounts: u64) -> Self {
        Self::with_clock(accounts, WallClock::system()).await
    }

    pub async fn with_clock(accounts: u64, clock: WallClock) -> Self {
        let roster = Roster { accounts };
        let simulator = Simulator::new(&roster, clock.0);
        let bound = simulator.bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", bound.addresses()[0]);
        let stop = CancellationToken::new();
        tokio::spawn(simulator.clone().serve(bound, stop.clone()));
        Self { simulator, roster, url, _stop: stop.drop_guard() }
    }

    pub fn configuration(&self, interval: &str) -> String {
        self.roster.configuration(&self.url, interval)
    }

    pub fn user_id(&self, index: usize) -> String {
        self.roster.accounts().nth(index).unwrap().user_id
    }
}

/// Runs the binary to its end.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, environment: &[(&str, &str)]) -> Output {
    binary().args(arguments).envs(environment.iter().copied()).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
