//! What has open files, and how few of them suffice.

use std::{path::Path, process::Command, time::Duration};

use koodrive_exporter::clock::WallClock;
use koodrive_simulator::{Roster, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    limits::connect,
    support::{Exporter, Files, PATIENCE, Upstream},
};

/// The simulator on all addresses of this host, so that each account can have an endpoint of its own.
async fn with_many_endpoints(accounts: u64) -> (u16, DropGuard) {
    let simulator = Simulator::new(&Roster { accounts }, WallClock::system().0);
    let bound = simulator.bind(&"0.0.0.0:0".parse().unwrap()).await.unwrap();
    let port = bound.addresses()[0].to_string().rsplit(':').next().unwrap().parse().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(simulator.serve(bound, stop.clone()));
    (port, stop.drop_guard())
}

/// A configuration of accounts that are polled each second, each at an endpoint of its own.
fn configuration(accounts: u64, port: u16) -> String {
    let yaml = Roster { accounts }.configuration(&format!("http://127.0.0.1:{port}"), "1s");
    let mut parts = yaml.split("    user_id:");
    let mut own = parts.next().unwrap().to_owned();
    for (index, rest) in parts.enumerate() {
        let endpoint = format!("http://127.0.1.{}:{port}", index + 1);
        own = own + "    endpoint: " + &endpoint + "\n    user_id:" + rest;
    }
    own
}

fn aliases(accounts: u64) -> Vec<String> {
    Roster { accounts }.accounts().map(|account| account.alias).collect()
}

async fn with_64_files(config: &Path) -> Exporter {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_koodrive-exporter")]);
    command.arg("--config.file").arg(config).args(["--web.listen-address", "127.0.0.1:0", "--log.level", "debug"]);
    Exporter::spawn(&mut command).await
}

#[tokio::test]
async fn few_open_files_are_shared_by_connections_and_polls() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let mut exporter = with_64_files(&files.write("k.yml", upstream.configuration("1m"))).await;
    exporter.line(|line| line.contains("too low for web.max_connections") && line.contains("max_connections=24")).await;
    assert!(exporter.log().contains("too low for poll.concurrency, allowing fewer polls"));
    let mut open = Vec::new();
    for _ in 0..22 {
        open.push(connect(&exporter).await);
    }
    assert_eq!(exporter.get("/metrics").await.status, 200);
    for mut stream in open {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn more_endpoints_than_open_files_are_polled_and_leave_files_to_scrapes() {
    let (files, (port, _stop)) = (Files::new(), with_many_endpoints(100).await);
    let mut exporter = with_64_files(&files.write("k.yml", configuration(100, port))).await;
    let aliases = aliases(100);
    let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
    for _ in 0..3 {
        exporter.line_of_each(&aliases, "poll succeeded").await;
        let scrape = tokio::time::timeout(PATIENCE, exporter.get("/metrics")).await.unwrap();
        assert_eq!(scrape.status, 200);
    }
    assert!(!exporter.log().contains("account polls failing"), "{}", exporter.log());
}

#[tokio::test]
async fn connections_to_endpoints_that_a_reload_removes_are_closed() {
    let (files, (port, _stop)) = (Files::new(), with_many_endpoints(60).await);
    let config = files.write("k.yml", configuration(60, port));
    let mut exporter = Exporter::start(&config, &["--log.level", "debug"]).await;
    let aliases = aliases(60);
    exporter.line_of_each(&aliases.iter().map(String::as_str).collect::<Vec<_>>(), "poll succeeded").await;
    let open = async |exporter: &Exporter| exporter.get("/metrics").await.value("process_open_fds").unwrap();
    let before = open(&exporter).await;
    files.write("k.yml", configuration(1, port));
    exporter.signal("-HUP");
    exporter.line(|line| line.contains("configuration reloaded")).await;
    let closed = async {
        while open(&exporter).await > before - 55.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
}
