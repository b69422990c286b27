//! Start and stop: ports, signals, scrapes in flight, one-shot commands.

use std::time::Duration;

use koodrive_simulator::Fault;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};

use crate::support::{Exporter, Files, Upstream, run, stderr};

#[tokio::test]
async fn sigterm_and_sigint_stop_it_with_exit_code_0() {
    for signal in ["-TERM", "-INT"] {
        let (files, upstream) = (Files::new(), Upstream::start(3).await);
        let exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), &[]).await;
        exporter.signal(signal);
        assert_eq!(exporter.exit_code().await, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_scrape_in_flight_is_finished_and_no_new_one_is_accepted() {
    let (files, upstream) = (Files::new(), Upstream::start(10_000).await);
    let mut exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), &[]).await;
    let address = exporter.url.strip_prefix("http://").unwrap().to_owned();
    let mut scrape = TcpStream::connect(&address).await.unwrap();
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut received = vec![0; 1024];
    scrape.read_exact(&mut received).await.unwrap();
    exporter.signal("-TERM");
    exporter.line(|line| line.contains("message=stopping")).await;
    scrape.read_to_end(&mut received).await.unwrap();
    let head = String::from_utf8_lossy(&received[..1024]).into_owned();
    let (_, length) = head.split_once("content-length: ").unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    let head_length = head.find("\r\n\r\n").unwrap() + 4;
    assert_eq!(received.len(), head_length + length, "the whole body came");
    assert!(length > 10_000_000, "more than socket buffers hold: {length}");
    assert!(TcpStream::connect(&address).await.is_err());
    assert_eq!(exporter.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_up_the_stop() {
    let (files, upstream) = (Files::new(), Upstream::start(10_000).await);
    let exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), &[]).await;
    let mut scrape = TcpStream::connect(exporter.url.strip_prefix("http://").unwrap()).await.unwrap();
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 1];
    scrape.read_exact(&mut first).await.unwrap();
    exporter.signal("-TERM");
    let code = tokio::time::timeout(Duration::from_secs(30), exporter.exit_code()).await;
    assert_eq!(code.expect("it stops"), Some(0));
}

#[tokio::test]
async fn a_port_in_use_is_a_run_time_failure_that_names_it() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = files.write("k.yml", upstream.configuration("1m"));
    let output = run(["--config.file", config.to_str().unwrap(), "--web.listen-address", &address], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("cannot listen on {address}: Address already in use")));
}

#[tokio::test]
async fn several_addresses_are_served_and_a_unix_socket_too() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let socket = files.path("k.sock");
    let listen = format!("unix:{}", socket.display());
    let config = files.write("k.yml", upstream.configuration("1m"));
    // A socket file that a killed exporter left behind is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let exporter = Exporter::start(&config, &["--web.listen-address", "[::]:0", "--web.listen-address", &listen]).await;
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
    let mut stream = UnixStream::connect(&socket).await.unwrap();
    stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"));
    exporter.signal("-TERM");
    assert_eq!(exporter.exit_code().await, Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_never_put_aside() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let precious = files.write("precious", "content");
    let config = files.write("k.yml", upstream.configuration("1m"));
    let listen = format!("unix:{}", precious.display());
    let output = run(["--config.file", config.to_str().unwrap(), "--web.listen-address", &listen], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "content");
}

#[tokio::test]
async fn an_exporter_leaves_its_successors_socket_where_it_is() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let socket = files.path("k.sock");
    let listen = format!("unix:{}", socket.display());
    let flags = ["--web.listen-address", &listen];
    let first = Exporter::start(&config, &flags).await;
    std::fs::remove_file(&socket).unwrap();
    let second = Exporter::start(&config, &flags).await;
    first.signal("-TERM");
    assert_eq!(first.exit_code().await, Some(0));
    assert!(UnixStream::connect(&socket).await.is_ok());
    second.signal("-TERM");
    assert_eq!(second.exit_code().await, Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn what_may_pass_by_itself_lets_a_service_manager_try_again() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let config = files.write("k.yml", upstream.configuration("1m"));
    files.write("half.yml", "tls_server_config: { cert_file: late.crt, key_file: late.key }");
    files.write("typo.yml", "tls_server_config: { cert_file: late.crt, key_file: late.key, colour: red }");
    for (ca_file, flags, code, said) in [
        ("", ["--web.listen-address", "mon.invalid:9"], 1, "cannot listen on mon.invalid:9: failed to lookup address"),
        ("", ["--web.config.file", "late.yml"], 1, "late.yml: cannot be read: No such file"),
        ("", ["--web.config.file", "half.yml"], 1, "tls_server_config.key_file: cannot be read: No such file"),
        ("", ["--web.config.file", "typo.yml"], 3, "tls_server_config.colour: is not a known key"),
        ("late.pem", ["--log.level", "info"], 1, "http.ca_file: cannot be read: No such file"),
        ("late.pem", ["--log.level", "loud"], 3, "log.level: must be one of"),
    ] {
        let mut command = crate::support::binary();
        command.current_dir(files.path("")).arg("--config.file").arg(&config).args(flags);
        command.env("KOODRIVE_EXPORTER__HTTP__CA_FILE", ca_file);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let log = crate::support::stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {log}");
        assert!(log.contains(said), "{flags:?}: {log}");
    }
}

#[tokio::test]
async fn an_unfinished_request_is_given_up() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), &[]).await;
    let mut slow = TcpStream::connect(exporter.url.strip_prefix("http://").unwrap()).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(crate::support::PATIENCE, slow.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the header-read timeout ends the connection");
}

#[tokio::test]
async fn once_writes_the_exposition_and_reports_a_failure_by_its_exit_code() {
    let (files, upstream) = (Files::new(), Upstream::start(3).await);
    let config = files.write("k.yml", upstream.configuration("1m"));
    let once = async || {
        let arguments = ["once".into(), "--config.file".into(), config.clone().into_os_string()];
        let output = tokio::task::spawn_blocking(move || run(arguments, &[])).await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, exposition) = once().await;
    assert_eq!(code, Some(0));
    assert!(exposition.contains("koodrive_up{account=\"finance\"} 1\n"));
    assert!(!exposition.contains("process_") && !exposition.contains("koodrive_exporter_"), "they would collide");
    let user = upstream.user_id(1);
    upstream.simulator.set_fault(&user, Some(&Fault::Status { status: 500 }));
    let (code, exposition) = once().await;
    assert_eq!(code, Some(4));
    assert!(exposition.contains("koodrive_up{account=\"finance\"} 0\n"));
}
