//! A stream on which each answer has a deadline as a whole.
//!
//! A limit for each write would not do: a client that takes a few bytes now and then would hold an answer's
//! body for ever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream that fails once what was to be written could not be written in time.
pub(super) struct AnswerDeadline<S> {
    stream: S,
    limit: Duration,
    /// Runs from the first write that had to wait until everything is written.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> AnswerDeadline<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, timer: None }
    }

    /// Passes on what a write came to, unless it must wait and may wait no longer.
    fn within_limit(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            return written;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnswerDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnswerDeadline<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within_limit(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.within_limit(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The HTTP library flushes once all of an answer has been written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.timer = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Writes 40 bytes to a client that takes one each `pace`, through a buffer of one.
    async fn write_to_client_reading_each(pace: Duration) -> io::Result<()> {
        let (server, mut client) = duplex(1);
        tokio::spawn(async move {
            while client.read_u8().await.is_ok() {
                tokio::time::sleep(pace).await;
            }
        });
        let mut server = AnswerDeadline::new(server, LIMIT);
        for _ in 0..2 {
            server.write_all(&[0; 40]).await?;
            server.flush().await?;
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trickles_is_given_up_when_the_answer_as_a_whole_is_late() {
        let error = write_to_client_reading_each(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_its_own_deadline() {
        assert!(write_to_client_reading_each(Duration::from_millis(700)).await.is_ok());
    }
}
