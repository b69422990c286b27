//! What a hostile network may do to the listener, and what it may not.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{
    access::{Scene, TLS, request},
    support::{Exporter, Files, PATIENCE, Upstream},
};

async fn start(flags: &[&str]) -> (Exporter, Files, Upstream) {
    let (files, upstream) = (Files::new(), Upstream::start(1).await);
    let mut exporter = Exporter::start(&files.write("k.yml", upstream.configuration("1m")), flags).await;
    exporter.line(|line| line.contains("polling")).await;
    (exporter, files, upstream)
}

pub async fn connect(exporter: &Exporter) -> TcpStream {
    TcpStream::connect(exporter.url.strip_prefix("http://").unwrap()).await.unwrap()
}

/// The status of each answer on one connection that sends `text` and no more.
async fn statuses(exporter: &Exporter, text: &str) -> Vec<u16> {
    let answers = tokio::time::timeout(PATIENCE, request(&mut connect(exporter).await, text)).await.unwrap();
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

#[tokio::test]
async fn a_head_that_is_too_long_or_has_too_many_headers_is_refused() {
    let (exporter, ..) = start(&[]).await;
    let with = |headers: String| format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    let many = |number: usize| with((0..number).map(|index| format!("x-{index}: y\r\n")).collect::<Vec<_>>().concat());
    assert_eq!(statuses(&exporter, &with(format!("x: {}\r\n", "y".repeat(15_000)))).await, [200]);
    assert_eq!(statuses(&exporter, &with(format!("x: {}\r\n", "y".repeat(17_000)))).await, [431]);
    assert_eq!(statuses(&exporter, &many(60)).await, [200]);
    assert_eq!(statuses(&exporter, &many(70)).await, [431]);
    let line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(70_000));
    assert!([vec![414], vec![431]].contains(&statuses(&exporter, &line).await));
}

#[tokio::test]
async fn requests_that_two_servers_could_read_differently_are_refused_or_end_the_connection() {
    let (exporter, ..) = start(&[]).await;
    let hidden = "GET /nonexistent HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for head in [
        "Content-Length: 0\r\nContent-Length: 60\r\n",
        "Content-Length: 0, 60\r\n",
        "Content-Length: +0\r\n",
        "Content-Length: 0x0\r\n",
        "Content-Length : 0\r\n",
        "Content-Length: 0\r\n folded: x\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n",
        "X: a\0b\r\n",
    ] {
        let text = format!("POST /metrics HTTP/1.1\r\nHost: x\r\n{head}\r\n0\r\n\r\n{hidden}");
        let seen = statuses(&exporter, &text).await;
        assert!(!seen.contains(&404), "{head:?} hid a request: {seen:?}");
        assert!(seen.len() <= 1, "{head:?}: {seen:?}");
    }
    let honest = format!("POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}");
    assert_eq!(statuses(&exporter, &honest).await.first(), Some(&405));
}

#[tokio::test]
async fn idle_connections_make_way_for_a_scrape_and_are_counted() {
    let (exporter, ..) = start(&["--web.max-connections", "3"]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&exporter).await;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        held.push(stream);
    }
    let close = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for path in ["/health", "/metrics", "/metrics"] {
        assert_eq!(statuses(&exporter, &format!("GET {path} {close}")).await, [200]);
    }
    let mut rest = Vec::new();
    let ended = held[0].read_to_end(&mut rest).await;
    assert!(ended.is_err() || rest.is_empty(), "the one that waited for the longest time ended");
    let page = exporter.get("/metrics").await;
    assert!(page.value("koodrive_exporter_http_connections_over_bound_total").unwrap() >= 1.0);
}

#[tokio::test]
async fn connections_with_slow_heads_make_way_for_a_scrape() {
    let (exporter, ..) = start(&["--web.max-connections", "2"]).await;
    let mut slow = Vec::new();
    for _ in 0..500 {
        let mut stream = connect(&exporter).await;
        stream.write_all(b"GET /health HT").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(tokio::time::timeout(PATIENCE, exporter.get("/metrics")).await.unwrap().status, 200);
    let mut seen = Vec::new();
    let closed = slow[0].read_to_end(&mut seen).await;
    assert!(closed.is_err() || seen.is_empty(), "the one that waited for the longest time ended");
}

#[tokio::test]
async fn asking_health_for_its_details_is_no_way_round_the_rate_limit() {
    let hash = bcrypt::hash("pw", 4).unwrap();
    let scene = Scene::start(
        &format!("{TLS}basic_auth_users: {{ alice: \"{hash}\" }}\nrate_limit: {{ interval: 1h, burst: 2 }}"),
        &[],
    )
    .await;
    let ask = async |password: &str| {
        let request = scene.client(None).get(scene.url("/health")).header("accept", "application/json");
        request.basic_auth("alice", Some(password)).send().await.unwrap().text().await.unwrap()
    };
    assert!(ask("pw").await.contains("accounts"));
    assert!(!ask("guess").await.contains("accounts"));
    assert!(!ask("pw").await.contains("accounts"), "beyond the limit, nobody is looked at");
}

#[tokio::test]
async fn a_port_scans_garbage_leaves_one_debug_line_each_at_most() {
    let (mut plain, _files, _upstream) = start(&["--log.level", "trace"]).await;
    let hello: &[u8] = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03";
    let random: Vec<u8> = (0..300u32).map(|index| u8::try_from(index * 7919 % 251).unwrap()).collect();
    let probes: [&[u8]; 5] = [hello, &random, b"", b"\r\n\r\n", b"SSH-2.0-x\r\n"];
    let scene = Scene::start(TLS, &["--log.level", "trace"]).await;
    let mut tls = scene.exporter;
    let get: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
    for (exporter, probes) in [(&mut plain, &probes[..]), (&mut tls, &[get, &random, b"", hello][..])] {
        for probe in probes {
            let mut stream = connect(exporter).await;
            let _ = stream.write_all(probe).await;
            stream.shutdown().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        exporter.signal("-TERM");
        exporter.line(|line| line.contains("message=stopped")).await;
        let log = exporter.log();
        let of_web: Vec<_> = log.lines().filter(|line| line.contains("::web")).collect();
        assert!(of_web.len() <= probes.len(), "{of_web:#?}");
        assert!(of_web.iter().all(|line| line.contains("level=debug")), "{of_web:#?}");
        assert!(!log.contains("level=warn") && !log.contains("level=error"), "{log}");
    }
}

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// `GET https /metrics` from x, by HPACK's static table (RFC 7541).
const HEADERS: &[u8] = b"\x82\x87\x04\x08/metrics\x41\x01x";

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

async fn http2(scene: &Scene) -> TlsStream<TcpStream> {
    let mut stream = scene.connect_h2().await;
    stream.write_all(PREFACE).await.unwrap();
    stream
}

/// Whether the server says farewell (GOAWAY) or closes while `attack` goes on.
async fn is_ended(mut stream: TlsStream<TcpStream>, attack: impl Iterator<Item = Vec<u8>>) -> bool {
    for frames in attack {
        if stream.write_all(&frames).await.is_err() {
            return true;
        }
    }
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    ended.is_ok()
}

#[tokio::test]
async fn http2_floods_end_their_own_connection_and_disturb_nobody() {
    let mut scene = Scene::start(TLS, &["--log.level", "trace"]).await;
    let mut honest = http2(&scene).await;
    honest.write_all(&frame(1, END_STREAM | END_HEADERS, 1, HEADERS)).await.unwrap();
    let mut seen = Vec::new();
    while !seen.windows(8).any(|window| window == b"koodrive") {
        assert!(honest.read_buf(&mut seen).await.unwrap() > 0, "an honest stream is answered");
    }

    let stream_ids = || (0..20_000u32).map(|index| 2 * index + 1);
    let rapid_reset = stream_ids()
        .map(|id| [frame(1, END_STREAM | END_HEADERS, id, HEADERS), frame(3, 0, id, &[0, 0, 0, 8])].concat());
    assert!(is_ended(http2(&scene).await, rapid_reset).await, "rapid reset");

    let field = [b"\x00\x7f\x81\x07", "n".repeat(262).as_bytes(), b"\x00"].concat();
    let first = frame(1, END_STREAM, 1, HEADERS);
    let continuations = (0..20_000).map(|_| frame(9, 0, 1, &field));
    assert!(is_ended(http2(&scene).await, std::iter::once(first).chain(continuations)).await, "CONTINUATION flood");

    let empty = (0..20_000).map(|_| frame(9, 0, 1, b""));
    let first = frame(1, END_STREAM, 1, HEADERS);
    assert!(is_ended(http2(&scene).await, std::iter::once(first).chain(empty)).await, "empty CONTINUATION flood");

    let page = scene.client(None).get(scene.url("/metrics")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    scene.exporter.signal("-TERM");
    scene.exporter.line(|line| line.contains("message=stopped")).await;
    let log = scene.exporter.log();
    assert!(!log.contains("level=warn") && !log.contains("level=error"), "{log}");
}

#[tokio::test]
async fn an_http2_client_gets_so_many_streams_at_once_and_no_more() {
    let scene = Scene::start(TLS, &[]).await;
    let mut stream = http2(&scene).await;
    // The window stays at nothing, so that no answer can be taken.
    stream.write_all(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await.unwrap();
    for id in (0..60).map(|index| 2 * index + 1) {
        stream.write_all(&frame(1, END_STREAM | END_HEADERS, id, HEADERS)).await.unwrap();
    }
    let (mut refused, mut seen) = (0, Vec::new());
    while refused < 60 - 8 {
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
        refused = seen.windows(13).filter(|frame| frame[..5] == [0, 0, 4, 3, 0] && frame[9..] == [0, 0, 0, 7]).count();
    }
}
