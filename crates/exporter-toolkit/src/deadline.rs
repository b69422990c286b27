//! How long a connection may take for what it is doing: one timer for each connection, whatever it speaks.
//!
//! The deadline is for an answer as a whole. A limit for each write would not do: a client that takes a few bytes
//! now and then would hold an answer's body for ever.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use crate::lock;

/// For a request's head, from its first byte or from the connection's beginning; and for a TLS handshake.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(10);

/// For an answer to be made, sent and taken.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Between requests. An idle connection outlasts an interval of Prometheus, which is a minute by default.
const IDLE_TIME: Duration = Duration::from_mins(2);

/// The part of the time in which a connection answers that counts for its staleness: a quarter. In a flood of connections,
/// one whose page is being made outlasts the newest idle ones.
const ANSWERING_COUNTS: u32 = 4;

/// What one connection is doing, as its stream and its answers report it.
#[derive(Clone)]
pub(crate) struct Deadline(Arc<Mutex<State>>);

struct State {
    /// Without an answer: since when a head is awaited, or the next request, and for how long.
    quiet: (Instant, Duration),
    /// Answers that are being made or taken, by the time they began.
    answers: Vec<(u64, Instant)>,
    /// Since when bytes wait for the client to take them.
    unwritten: Option<Instant>,
    begun: u64,
}

impl Deadline {
    /// A connection that begins now.
    pub(crate) fn new() -> Self {
        let quiet = (Instant::now(), HEAD_TIME);
        Self(Arc::new(Mutex::new(State { quiet, answers: Vec::new(), unwritten: None, begun: 0 })))
    }

    /// HTTP starts now, after the handshake where there is one.
    pub(crate) fn starts(&self) {
        self.state().quiet = (Instant::now(), HEAD_TIME);
    }

    /// How long the connection has awaited a request, or been answering its oldest one. Time in which it answers counts
    /// less, as it is the server's and not the client's alone.
    pub(crate) fn staleness(&self) -> Duration {
        let state = self.state();
        state.answering_since().map_or_else(|| state.quiet.0.elapsed(), |began| began.elapsed() / ANSWERING_COUNTS)
    }

    /// A request's head has come.
    pub(crate) fn answer_begins(&self) -> Answering {
        let mut state = self.state();
        state.begun += 1;
        let id = state.begun;
        state.answers.push((id, Instant::now()));
        Answering { deadline: self.clone(), id }
    }

    /// Ends when the connection has taken too long for what it is doing.
    pub(crate) async fn expired(&self) {
        let mut timer = Box::pin(sleep_until(self.state().deadline()));
        poll_fn(|context| {
            loop {
                let deadline = self.state().deadline();
                // Mostly the deadline moves on: the timer is set again when it has gone off.
                if deadline < timer.deadline() {
                    timer.as_mut().reset(deadline);
                }
                ready!(timer.as_mut().poll(context));
                if deadline <= Instant::now() {
                    return Poll::Ready(());
                }
                timer.as_mut().reset(deadline);
            }
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl State {
    fn deadline(&self) -> Instant {
        let (since, time) = self.answering_since().map_or(self.quiet, |began| (began, ANSWER_TIME));
        since + time
    }

    fn answering_since(&self) -> Option<Instant> {
        self.answers.iter().map(|(_, began)| *began).chain(self.unwritten).min()
    }

    fn received(&mut self) {
        if self.quiet.1 == IDLE_TIME {
            self.quiet = (Instant::now(), HEAD_TIME);
        }
    }

    fn wrote(&mut self, all: bool) {
        match (all, self.unwritten) {
            (true, Some(_)) => {
                self.unwritten = None;
                self.quiet = (Instant::now(), IDLE_TIME);
            }
            (false, None) => self.unwritten = Some(Instant::now()),
            _ => {}
        }
    }
}

/// Lasts as long as an answer does.
pub(crate) struct Answering {
    deadline: Deadline,
    id: u64,
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.deadline.state();
        state.answers.retain(|(id, _)| *id != self.id);
        state.quiet = (Instant::now(), IDLE_TIME);
    }
}

/// A body that is being answered with until it has been sent.
pub(crate) struct TimedBody<B> {
    pub(crate) body: B,
    pub(crate) answering: Answering,
}

impl<B: Body<Data = Bytes> + Unpin> Body for TimedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let _ = &self.answering;
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that reports its reads and writes to a [`Deadline`].
pub(crate) struct TimedStream<S> {
    pub(crate) stream: S,
    pub(crate) deadline: Deadline,
    /// Whether the first byte after an answer begins a head; in HTTP/2 it may be anything.
    pub(crate) heads: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.heads && buffer.filled().len() > before {
            self.deadline.state().received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_pending() {
            self.deadline.state().wrote(false);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if written.is_pending() {
            self.deadline.state().wrote(false);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The HTTP library flushes once all that it has was written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.deadline.state().wrote(true);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::{Request, Response, body::Incoming};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        task::JoinHandle,
        time::sleep,
    };

    use super::*;
    use crate::{body::SharedBody, connection::serve_connection, service::HttpService};

    /// A service that answers with so many letters.
    fn letters(number: usize) -> impl HttpService<Body = SharedBody> {
        hyper::service::service_fn(move |_: Request<Incoming>| async move {
            Ok::<_, Infallible>(Response::new(SharedBody::from("x".repeat(number))))
        })
    }

    /// A connection through a pipe that holds 100 bytes; its task returns when it ended.
    fn connection(letters: usize) -> (DuplexStream, JoinHandle<Duration>) {
        let (server, client) = duplex(100);
        let ended = tokio::spawn(async move {
            let start = Instant::now();
            let _ = serve_connection(server, false, self::letters(letters)).await;
            start.elapsed()
        });
        (client, ended)
    }

    async fn ask(client: &mut DuplexStream) {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    }

    async fn read_answer(client: &mut DuplexStream, letters: usize) {
        let mut answer = Vec::new();
        while !answer.ends_with(&vec![b'x'; letters]) {
            answer.push(client.read_u8().await.unwrap());
        }
    }

    fn seconds(elapsed: Duration) -> u64 {
        elapsed.as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_ends_and_so_does_one_whose_head_trickles() {
        let (_client, ended) = connection(10);
        assert_eq!(seconds(ended.await.unwrap()), 10);
        let (mut client, ended) = connection(10);
        tokio::spawn(async move {
            loop {
                let _ = client.write_all(b"G").await;
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert_eq!(seconds(ended.await.unwrap()), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_outlasts_a_minute_and_a_request_after_it_has_its_own_time() {
        let (mut client, ended) = connection(10);
        for _ in 0..3 {
            ask(&mut client).await;
            read_answer(&mut client, 10).await;
            sleep(Duration::from_mins(1)).await;
        }
        assert!(!ended.is_finished());
        client.write_all(b"GET").await.unwrap();
        assert_eq!(seconds(ended.await.unwrap()), 190);
        let (mut client, ended) = connection(10);
        ask(&mut client).await;
        read_answer(&mut client, 10).await;
        assert_eq!(seconds(ended.await.unwrap()), 120);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_answer_too_slowly_is_given_up_when_the_whole_is_late() {
        for delay in [100, 1000, 100_000] {
            let (mut client, ended) = connection(1000);
            ask(&mut client).await;
            let reader = tokio::spawn(async move {
                while client.read_u8().await.is_ok() {
                    sleep(Duration::from_millis(delay)).await;
                }
            });
            assert_eq!(seconds(ended.await.unwrap()), 30, "{delay}");
            reader.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_http2_client_whose_window_stays_shut_is_given_up_though_it_answers_pings() {
        const NO_WINDOW: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
        const GET: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x87\x84\x41\x01x";
        let (server, client) = duplex(4096);
        let (mut read, mut write) = tokio::io::split(client);
        let start = Instant::now();
        let ended = tokio::spawn(serve_connection(server, true, letters(10)));
        write.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NO_WINDOW, GET].concat()).await.unwrap();
        tokio::spawn(async move {
            let mut header = [0; 9];
            while read.read_exact(&mut header).await.is_ok() {
                let mut payload = vec![0; usize::from(header[1]) * 256 + usize::from(header[2])];
                read.read_exact(&mut payload).await.unwrap();
                if header[3] == 6 {
                    let pong = [b"\0\0\x08\x06\x01\0\0\0\0", payload.as_slice()].concat();
                    write.write_all(&pong).await.unwrap();
                }
            }
        });
        let error = ended.await.unwrap().unwrap_err();
        assert_eq!((seconds(start.elapsed()), error.to_string().as_str()), (30, "deadline exceeded"));
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_its_own_deadline() {
        let (mut client, ended) = connection(1000);
        for _ in 0..3 {
            ask(&mut client).await;
            for _ in 0..1000 {
                let _ = client.read_u8().await.unwrap();
                sleep(Duration::from_millis(20)).await;
            }
            let mut rest = [0; 4096];
            let _ = tokio::time::timeout(Duration::from_secs(1), client.read(&mut rest)).await;
        }
        assert!(!ended.is_finished(), "an answer of 20 seconds is in time, and so are three");
    }
}
