//! How the upstream is reached: connections, proxies, secrets in files.

use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{
    Response,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use koodrive::Stage;
use koodrive_simulator::Roster;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    fake,
    hostile::{Authority, Hostile},
    support::{Exporter, Files, Upstream, run},
};

/// An API that speaks HTTP/1 and HTTP/2, and on its first connections answers nothing.
struct Api {
    endpoint: String,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Api {
    async fn start(authority: &Authority, silent_connections: usize) -> Self {
        Self::with_tls(authority.acceptor("localhost", &[b"h2", b"http/1.1"]), silent_connections).await
    }

    async fn with_tls(acceptor: TlsAcceptor, silent_connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let api = Self { endpoint, connections: Arc::clone(&connections), requests: Arc::clone(&requests) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let is_silent = connections.fetch_add(1, Ordering::SeqCst) < silent_connections;
                let (acceptor, requests) = (acceptor.clone(), Arc::clone(&requests));
                let answer = service_fn(move |_| {
                    requests.fetch_add(1, Ordering::SeqCst);
                    let body = r#"{"code":0,"data":{"totalCapacity":1,"totalUsed":1,"totalAllocation":1}}"#;
                    async move {
                        if is_silent {
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, Infallible>(Response::new(body.to_owned()))
                    }
                });
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return Ok(()) };
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await
                    } else {
                        http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await
                    }
                });
            }
        });
        api
    }
}

/// A configuration of accounts that are polled each second and trust an authority.
fn trusting(ca: &Path, roster: Roster, endpoint: &str) -> String {
    roster.configuration(endpoint, "1s").replace("none }", &format!("none, ca_file: {} }}", ca.display()))
}

#[tokio::test]
async fn accounts_of_one_origin_share_a_few_connections() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.write("ca.pem", &authority.1);
    let api = Api::start(&authority, 0).await;
    let roster = Roster { accounts: 100 };
    let yaml = trusting(&ca, roster, &api.endpoint);
    let yaml =
        format!("collectors: [overview, usage, subscription]\n{}", yaml.replace("poll: {", "poll: { concurrency: 4,"));
    let mut exporter = Exporter::start(&files.write("k.yml", yaml), &["--log.level=debug"]).await;
    let aliases: Vec<String> = roster.accounts().map(|account| account.alias).collect();
    let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
    for _ in 0..2 {
        exporter.line_of_each(&aliases, "poll succeeded").await;
    }
    let (connections, requests) = (api.connections.load(Ordering::SeqCst), api.requests.load(Ordering::SeqCst));
    assert!(requests >= 300, "the further collectors ask over them, too");
    // About as many as polls may be in flight: a poll may begin before the connection of the one before is idle.
    assert!(connections * 10 <= requests, "{connections} connections for {requests} requests");
}

#[tokio::test]
async fn a_kept_connection_is_not_used_beyond_the_life_of_the_certificate() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.write("ca.pem", &authority.1);
    let api = Api::with_tls(authority.acceptor_for("localhost", Duration::from_secs(4)), 0).await;
    let yaml = trusting(&ca, Roster { accounts: 1 }, &api.endpoint);
    let mut exporter = Exporter::start(&files.write("k.yml", yaml), &["--log.level=debug"]).await;
    for _ in 0..2 {
        exporter.line(|line| line.contains("poll succeeded")).await;
    }
    assert_eq!(api.connections.load(Ordering::SeqCst), 1);
    exporter.line(|line| line.contains("account polls failing") && line.contains("reason=tls")).await;
}

#[tokio::test]
async fn a_connection_that_goes_silent_costs_the_poll_that_uses_it_alone() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.write("ca.pem", &authority.1);
    let api = Api::start(&authority, 1).await;
    let yaml = trusting(&ca, Roster { accounts: 1 }, &api.endpoint);
    let mut exporter = Exporter::start(&files.write("k.yml", yaml), &[]).await;
    exporter.line(|line| line.contains("account polls failing") && line.contains("reason=timeout")).await;
    exporter.line(|line| line.contains("account polls succeeding again") && line.contains("failures=1")).await;
}

#[tokio::test]
async fn a_request_counts_as_sent_once_it_is_written_to_a_connection_and_no_sooner() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ask = async |scheme, listener: &TcpListener, timeout| {
        let address = listener.local_addr().unwrap();
        let mut account = (*fake::account("finance", fake::MINUTE).api).clone();
        account.endpoint = koodrive::Endpoint::parse(&format!("{scheme}://{address}")).unwrap();
        account.transport.proxy = koodrive::Proxy::Direct;
        fake::client(account).ask(Instant::now() + timeout, None).await.stage
    };
    // Nobody answers the beginning of TLS.
    assert_eq!(ask("https", &silent, Duration::from_millis(200)).await, Stage::Unsent);
    let answer_none = async {
        loop {
            let (stream, _) = closing.accept().await.unwrap();
            head(stream).await;
        }
    };
    tokio::select! {
        stage = ask("http", &closing, fake::MINUTE) => assert_eq!(stage, Stage::Sent),
        () = answer_none => {}
    }
}

#[tokio::test]
async fn a_connection_resumes_no_earlier_tls_session_which_would_skip_the_certificates_expiry() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.write("ca.pem", &authority.1);
    let (acceptor, listener) =
        (authority.acceptor("localhost", &[b"http/1.1"]), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let yaml = trusting(&ca, Roster { accounts: 1 }, &endpoint);
    let _exporter = Exporter::start(&files.write("k.yml", yaml), &[]).await;
    for connection in 0..3 {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        while stream.read_u8().await.unwrap() != b'\r' {}
        let handshake = stream.get_ref().1.handshake_kind();
        assert_eq!(handshake, Some(rustls::HandshakeKind::Full), "connection {connection}");
        let good = crate::scripted::good(None);
        stream.write_all(good.as_bytes()).await.unwrap();
        let _ = stream.shutdown().await;
    }
}

#[tokio::test]
async fn a_configured_proxy_is_asked_for_a_tunnel_and_never_gets_the_credential() {
    let (files, proxy) = (Files::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let yaml = format!(
        "endpoint: https://koodrive.example\nhttp: {{ proxy_url: \"http://user:hunter2@{}\" }}\n\
         accounts: {{ a: {{ user_id: \"1\", auth: {{ type: token, token: hunter3 }} }} }}",
        proxy.local_addr().unwrap()
    );
    let mut exporter = Exporter::start(&files.write("k.yml", yaml), &["--log.level=trace"]).await;
    let (stream, _) = proxy.accept().await.unwrap();
    let head = head(stream).await;
    drop(proxy);
    assert!(head.starts_with("CONNECT koodrive.example:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic ") && !head.contains("hunter3"), "{head}");
    let line = exporter.line(|line| line.contains("account polls failing")).await;
    assert!(line.contains("reason=connect"), "{line}");
    let log = exporter.log();
    assert!(!log.contains("hunter2") && !log.contains("hunter3"), "{log}");
}

#[tokio::test]
async fn a_replaced_ca_file_is_trusted_without_a_reload() {
    let (files, authority, stranger) = (Files::new(), Authority::new(), Authority::new());
    let ca = files.write("ca.pem", &authority.1);
    let acceptor = stranger.acceptor("localhost", &[]);
    let server = Hostile::start_tls(acceptor.clone(), acceptor).await;
    server.behave();
    let endpoint = format!("https://localhost:{}", server.address.rsplit(':').next().unwrap());
    let yaml = trusting(&ca, Roster { accounts: 1 }, &endpoint);
    let mut exporter = Exporter::start(&files.write("k.yml", yaml), &[]).await;
    exporter.line(|line| line.contains("account polls failing") && line.contains("reason=tls")).await;
    std::fs::write(&ca, "none").unwrap();
    exporter.line(|line| line.contains("reload of authorities failed") && line.contains("must contain PEM")).await;
    let reload = "koodrive_exporter_config_last_reload_successful ";
    assert!(exporter.get("/metrics").await.body.contains(&format!("{reload}0")));
    std::fs::write(&ca, stranger.1).unwrap();
    exporter.line(|line| line.contains("authorities reloaded") && line.contains("accounts=1")).await;
    assert!(exporter.get("/metrics").await.body.contains(&format!("{reload}1")));
    exporter.line(|line| line.contains("account polls succeeding again")).await;
}

#[tokio::test]
async fn a_request_that_a_gateway_refused_is_retried_on_a_new_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Behind the first connection is a host that has failed over.
    tokio::spawn(async move {
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                while stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                    let gone = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned();
                    let answer = if connection == 0 { gone } else { crate::scripted::good(None) };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let files = Files::new();
    let yaml = Roster { accounts: 1 }.configuration(&format!("http://{address}"), "1m");
    let mut exporter = Exporter::start(&files.write("k.yml", yaml), &["--log.level=debug"]).await;
    exporter.line(|line| line.contains("request failed, retrying") && line.contains("http_status")).await;
    exporter.line(|line| line.contains("poll succeeded")).await;
}

#[tokio::test]
async fn a_proxy_is_named_where_it_refuses_and_shown_where_it_comes_from() {
    let (files, proxy) = (Files::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = proxy.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = proxy.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let yaml =
        "endpoint: https://koodrive.example\naccounts: { a: { user_id: \"1\", auth: { type: token, token: t } } }";
    let config = files.write("k.yml", yaml).display().to_string();
    let run = |arguments: &[&str], proxy: String, exception: &str| {
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (config, exception) = (config.clone(), exception.to_owned());
        tokio::task::spawn_blocking(move || {
            let environment = [("HTTPS_PROXY", proxy.as_str()), ("https_proxy", ""), ("NO_PROXY", &exception)];
            let output = run(arguments.iter().map(String::as_str).chain(["--config.file", &config]), &environment);
            String::from_utf8(output.stdout.clone()).unwrap() + &crate::support::stderr(&output)
        })
    };
    let refused = run(&["once"], format!("http://{address}"), "other.example").await.unwrap();
    let expected = format!("cannot reach koodrive.example:443 by the proxy http://{address}, which opened no tunnel");
    assert!(refused.contains(&expected), "{refused}");
    let closed = run(&["once"], "http://127.0.0.1:9".to_owned(), "").await.unwrap();
    assert!(
        closed.contains("by the proxy http://127.0.0.1:9: Connection refused") && !closed.contains("trace_id"),
        "{closed}"
    );
    let shown = run(&["check"], format!("http://u:hunter2@{address}"), "").await.unwrap();
    let line = shown.lines().find(|line| line.contains("http.proxy_url")).unwrap();
    assert!(line.contains("http://u:***@") && line.contains("environment variable HTTPS_PROXY"), "{line}");
    let direct = run(&["check"], format!("http://u:hunter2@{address}"), "koodrive.example:443").await.unwrap();
    let line = direct.lines().find(|line| line.contains("http.proxy_url")).unwrap();
    assert!(line.contains("none") && line.contains("default"), "{line}");
    let bad = run(&["check"], "hunter2://x".to_owned(), "").await.unwrap();
    assert!(bad.contains("environment variable HTTPS_PROXY: must be a URL") && !bad.contains("hunter2"), "{bad}");
}

async fn head(mut stream: TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_rotated_token_file_is_used_by_the_next_poll() {
    let (files, upstream) = (Files::new(), Upstream::start(2).await);
    let token = files.write("token", "simulated-token-00001\n");
    let yaml = upstream.configuration("1s").replace("token: simulated-token-00001", "token_file: token");
    let mut exporter = Exporter::start(&files.write("k.yml", yaml), &["--log.level=debug"]).await;
    exporter.line_of_each(&["finance"], "poll succeeded").await;
    std::fs::write(&token, "outdated").unwrap();
    let line = exporter.line(|line| line.contains("account polls failing")).await;
    assert!(line.contains("account=finance collector=overview reason=auth"), "{line}");
    // As Kubernetes does it: another file is put in the place of the old one.
    std::fs::rename(files.write("new-token", "simulated-token-00001"), &token).unwrap();
    exporter.line_of_each(&["finance"], "succeeding again").await;
    std::fs::remove_file(&token).unwrap();
    let line = exporter.line(|line| line.contains("account polls failing")).await;
    assert!(
        line.contains("account=finance collector=overview reason=credentials") && line.contains("No such file"),
        "{line}"
    );
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_secret_file_costs_its_account_alone_and_no_thread() {
    let (files, upstream) = (Files::new(), Upstream::start(2).await);
    let hanging = files.path("hanging");
    assert!(std::process::Command::new("mkfifo").arg(&hanging).status().unwrap().success());
    let yaml = upstream.configuration("100ms").replace("token: simulated-token-00001", "token_file: hanging");
    let mut exporter = Exporter::start(&files.write("k.yml", yaml), &["--log.level=debug"]).await;
    for _ in 0..30 {
        exporter.line_of_each(&["production"], "poll succeeded").await;
    }
    let page = exporter.get("/metrics").await;
    assert!(page.value(r#"koodrive_poll_failures_total{account="finance",reason="credentials"}"#).unwrap() >= 3.0);
    assert_eq!(page.value(r#"koodrive_poll_failures_total{account="production",reason="credentials"}"#), Some(0.0));
    let threads = page.value("process_threads").unwrap();
    assert!(threads < 16.0, "{threads} threads");
}

#[tokio::test]
async fn a_request_in_the_clear_goes_to_no_proxy() {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let yaml = upstream.configuration("1m").replace("proxy_url: none", "proxy_url: \"http://127.0.0.1:1\"");
    let mut command = crate::support::binary();
    command.arg("--config.file").arg(files.write("k.yml", yaml)).args(["--web.listen-address", "127.0.0.1:0"]);
    let mut exporter = Exporter::spawn(command.env("HTTP_PROXY", "http://127.0.0.1:1").arg("--log.level=debug")).await;
    exporter.line_of_each(&["production"], "poll succeeded").await;
}
