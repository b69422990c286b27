//! The examples as their users run them: flags, TLS and a user.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::{Certificate, Client, Response, StatusCode, header::HeaderValue};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs an example, and returns the address that it prints.
fn run(example: &str, flags: &[&str]) -> (Running, String) {
    let example = std::env::current_exe().unwrap().parent().unwrap().join("../examples").join(example);
    let listen = ["--web.listen-address", "127.0.0.1:0"];
    let mut child = Command::new(example).args(listen).args(flags).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    (Running(child), address)
}

/// An example behind TLS, a user and a header.
struct Secured {
    _running: Running,
    client: Client,
    origin: String,
}

impl Secured {
    fn run(example: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), certified.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
        let hash = bcrypt::hash("secret", 4).unwrap();
        let yaml = format!(
            "tls_server_config: {{ cert_file: cert.pem, key_file: key.pem }}\nbasic_auth_users: {{ alice: '{hash}' }}\n\
             http_server_config: {{ headers: {{ X-Frame-Options: deny }} }}\n"
        );
        let web_config = folder.path().join("web.yml");
        fs::write(&web_config, yaml).unwrap();
        let (running, address) = run(example, &[&["--web.config.file", web_config.to_str().unwrap()], flags].concat());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = Certificate::from_pem(certified.cert.pem().as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([root]).no_proxy().timeout(Duration::from_secs(30));
        let origin = format!("https://localhost:{}", address.rsplit(':').next().unwrap());
        Self { _running: running, client: client.build().unwrap(), origin }
    }

    async fn get(&self, path: &str, password: Option<&str>) -> Response {
        let request = self.client.get(format!("{}{path}", self.origin));
        match password {
            Some(password) => request.basic_auth("alice", Some(password)),
            None => request,
        }
        .send()
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn example_serves_its_gauge_by_tls_to_its_user_alone() {
    let minimal = Secured::run("minimal", &["--web.telemetry-path", "/measurements"]);
    assert_eq!(minimal.get("/measurements", None).await.status(), StatusCode::UNAUTHORIZED);
    let answer = minimal.get("/measurements", Some("secret")).await;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    assert!(
        text.starts_with(
            "# HELP room_temperature_celsius Temperature of the room.\n# TYPE room_temperature_celsius gauge\n\
             room_temperature_celsius{room=\"kitchen\"} 21.5\n# HELP exporter_http_connections "
        ),
        "{text}"
    );
    let page = minimal.get("/", Some("secret")).await;
    assert!(page.text().await.unwrap().contains("<a href=\"/measurements\">"));
}

#[tokio::test]
async fn router_of_axum_is_served_by_tls_to_its_user_alone() {
    let axum = Secured::run("axum", &[]);
    for (path, password, status, text) in [
        ("/temperature", None, StatusCode::UNAUTHORIZED, "unauthorized\n"),
        ("/temperature", Some("guess"), StatusCode::UNAUTHORIZED, "unauthorized\n"),
        ("/temperature", Some("secret"), StatusCode::OK, "21.5\n"),
        ("/", Some("secret"), StatusCode::NOT_FOUND, ""),
    ] {
        let answer = axum.get(path, password).await;
        assert_eq!(
            (answer.status(), &answer.headers()["x-frame-options"]),
            (status, &HeaderValue::from_static("deny"))
        );
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == StatusCode::UNAUTHORIZED);
        assert_eq!(answer.text().await.unwrap(), text);
    }
}

#[tokio::test]
async fn systemd_socket_is_listened_on_and_its_absence_an_error() {
    let example = std::env::current_exe().unwrap().parent().unwrap().join("../examples/minimal");
    let without = Command::new(&example).arg("--web.systemd-socket").output().unwrap();
    assert!(!without.status.success());
    assert!(String::from_utf8_lossy(&without.stderr).contains("NoSockets"), "{without:?}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // As systemd does it: the socket is descriptor 3, and LISTEN_PID is the process that the shell becomes.
    let script = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" --web.systemd-socket";
    let socket = std::os::fd::OwnedFd::from(listener);
    let mut shell = Command::new("sh");
    let child = shell.args(["-c", script]).arg(example).stdin(socket).stdout(Stdio::piped()).spawn().unwrap();
    let mut running = Running(child);
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), format!("listening on {address}"));
}

#[tokio::test]
async fn disable_exporter_metrics_leaves_the_servers_own_out() {
    let (_running, address) = run("minimal", &["--web.disable-exporter-metrics"]);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    assert_eq!(text.lines().last(), Some("room_temperature_celsius{room=\"kitchen\"} 21.5"));
}
