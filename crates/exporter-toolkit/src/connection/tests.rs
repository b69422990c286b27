//! What ends a connection, and when.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    body::{Body, Frame},
    service::service_fn,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::body::SharedBody;

/// How an HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

#[tokio::test(start_paused = true)]
async fn new_connection_is_answered_though_the_server_stops_before_its_request_comes() {
    let service =
        service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(SharedBody::from("x"))) });
    let accepted = Instant::now();
    for has_request in [true, false] {
        let stop = CancellationToken::new();
        stop.cancel();
        let connection = Connection { accepted, ..Connection::plain(service, stop) };
        let (mut client, server) = duplex(1024);
        let serving = tokio::spawn(connection.serve(server));
        tokio::task::yield_now().await;
        if has_request {
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 200"), has_request, "{answer}");
        serving.await.unwrap().unwrap();
    }
    assert_eq!(accepted.elapsed(), NEW_TIME);
}

#[tokio::test(start_paused = true)]
async fn client_that_ends_its_side_after_the_request_is_answered() {
    let service = service_fn(|_: Request<Incoming>| async {
        sleep(Duration::from_secs(1)).await;
        Ok::<_, Infallible>(Response::new(SharedBody::from("x")))
    });
    let (mut client, server) = duplex(1024);
    let serving = tokio::spawn(serve_connection(server, false, service));
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    serving.await.unwrap().unwrap();
}

/// A client of HTTP/2 that never answers a PING.
fn ask_again_and_again(client: DuplexStream) {
    let (mut read, mut write) = tokio::io::split(client);
    tokio::spawn(async move { while read.read_u8().await.is_ok() {} });
    tokio::spawn(async move {
        write.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
        for stream in (1u8..).step_by(2) {
            let get = [b"\0\0\x06\x01\x05\0\0\0", &[stream][..], b"\x82\x87\x84\x41\x01x"].concat();
            if write.write_all(&get).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(500)).await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn http2_connection_that_must_end_ends_though_its_client_goes_on() {
    let service =
        service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(SharedBody::from("x"))) });
    let stop = CancellationToken::new();
    let connection = Connection::plain(service, stop.clone());
    let (server, client) = duplex(1 << 16);
    let start = Instant::now();
    let ended = tokio::spawn(connection.http2(server));
    ask_again_and_again(client);
    sleep(Duration::from_secs(3)).await;
    stop.cancel();
    assert_eq!(ended.await.unwrap().unwrap_err().to_string(), "shutdown timed out");
    assert_eq!(start.elapsed().as_secs(), 8);
}

#[tokio::test(start_paused = true)]
async fn http2_client_that_is_no_longer_admitted_is_answered_no_more_though_it_holds_up_the_end() {
    let answers = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answers);
    let service = service_fn(move |_: Request<Incoming>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, Infallible>(Response::new(SharedBody::from("x"))) }
    });
    let connection = Connection::plain(service, CancellationToken::new());
    let (server, client) = duplex(1 << 16);
    let lapsed = connection.lapsed.clone();
    let ended = tokio::spawn(connection.http2(server));
    ask_again_and_again(client);
    sleep(Duration::from_millis(2250)).await;
    lapsed.cancel();
    assert!(ended.await.unwrap().is_err());
    assert_eq!(answers.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn client_whose_certificate_has_expired_by_a_clock_that_was_set_is_not_answered() {
    let service =
        service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(SharedBody::from("x"))) });
    for (expires, is_answered) in [(Some(1), false), (Some(u64::MAX), true), (None, true)] {
        let connection = Connection { expires, ..Connection::plain(service, CancellationToken::new()) };
        let lapsed = connection.lapsed.clone();
        let (mut client, server) = duplex(1024);
        let serving = tokio::spawn(connection.serve(server));
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((!answer.is_empty(), !lapsed.is_cancelled()), (is_answered, is_answered), "{expires:?}: {answer}");
        assert_eq!(serving.await.unwrap().is_ok(), is_answered);
    }
}

#[tokio::test]
async fn http2_client_may_send_no_body_worth_speaking_of() {
    const WINDOW_SIZE: u8 = 4;
    let service =
        service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(SharedBody::from("x"))) });
    let (server, mut client) = duplex(1 << 16);
    tokio::spawn(serve_connection(server, true, service));
    client.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let mut head = [0; 9];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the server begins with its settings");
    let mut settings = vec![0; usize::from(head[2])];
    client.read_exact(&mut settings).await.unwrap();
    let window = settings.chunks(6).find(|setting| setting[1] == WINDOW_SIZE).unwrap();
    assert_eq!(window[2..], MAX_UNREAD_BYTES.to_be_bytes());
}

/// A body without end, which counts the pieces that were taken.
struct Endless(Arc<AtomicUsize>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(vec![b'x'; 28 * 1024].into()))))
    }
}

#[tokio::test(start_paused = true)]
async fn http2_client_that_opens_its_windows_and_takes_nothing_holds_few_pieces_of_an_answer() {
    const WINDOW: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff";
    const WINDOW_OF_ALL: &[u8] = b"\0\0\x04\x08\0\0\0\0\0\x7f\0\0\0";
    const GET: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x87\x84\x41\x01x";
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let service = service_fn(move |_: Request<Incoming>| {
        let body = Endless(Arc::clone(&counted));
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let (server, mut client) = duplex(1024);
    tokio::spawn(serve_connection(server, true, service));
    client.write_all(&[PREFACE, WINDOW, WINDOW_OF_ALL, GET].concat()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!((1..=2).contains(&taken.load(Ordering::Relaxed)), "{taken:?}");
}
