//! The body of an answer, frame by frame.

use std::{
    future::poll_fn,
    pin::Pin,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{header::RETRY_AFTER, response::Parts};
use hyper::body::{Body as _, Frame, Incoming};

use crate::{
    Exchange, Observer, Outcome, StreamError,
    answer::Answer,
    connection::Connection,
    excerpt::{refusal_message, retry_after},
};

/// How long the end of the HTTP message is waited for after the API's own end. Servers send both at once; the answer is not
/// held up by one that does not.
const LINGER: Duration = Duration::from_millis(250);

/// What of a refusal is read. More than a message has nothing to say.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// The body that a connection is receiving.
pub(crate) struct Body<'a> {
    connection: &'a mut Connection,
    incoming: Incoming,
}

impl<'a> Body<'a> {
    pub(crate) fn new(connection: &'a mut Connection, incoming: Incoming) -> Self {
        Self { connection, incoming }
    }

    async fn frame(&mut self) -> Option<hyper::Result<Frame<Bytes>>> {
        let Self { connection, incoming } = self;
        poll_fn(|cx| connection.poll(cx, |cx| Pin::new(&mut *incoming).poll_frame(cx))).await
    }

    /// Follows an answer to its end.
    pub(crate) async fn follow<O: Observer>(
        &mut self,
        mut answer: Answer<'_, O>,
    ) -> Result<Outcome, Outcome> {
        loop {
            let frame = if answer.is_ended() {
                match tokio::time::timeout(LINGER, self.frame()).await {
                    // Nothing is missing but the end of the HTTP message.
                    Ok(Some(Err(_))) | Err(_) => return Ok(Outcome::Ok),
                    Ok(frame) => frame,
                }
            } else {
                self.frame().await
            };
            let at = self.connection.last_read();
            match frame {
                None => return Ok(answer.end(at)),
                Some(Ok(frame)) => {
                    // Trailers say nothing about an answer.
                    let bytes = frame.data_ref().map_or(&b""[..], |data| data);
                    answer.frame(at, bytes).map_err(Outcome::StreamError)?;
                }
                Some(Err(error)) => {
                    return Err(Outcome::StreamError(StreamError::Transport(error)));
                }
            }
        }
    }

    /// Reads why the server refuses.
    pub(crate) async fn refusal(&mut self, head: &Parts, record: &mut Exchange) -> Outcome {
        let mut body = Vec::new();
        while body.len() < MAX_REFUSAL_BYTES {
            match self.frame().await {
                None => {
                    record.closed = Some(self.connection.last_read());
                    break;
                }
                // The status has said it; the rest of the message is lost.
                Some(Err(_)) => break,
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(&b""[..], |data| data);
                    record.bytes += bytes.len() as u64;
                    body.extend_from_slice(bytes);
                }
            }
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a date in an answer means the clock on the wall; nothing is measured by it"
        )]
        let now = SystemTime::now();
        let wait = head.headers.get(RETRY_AFTER);
        Outcome::HttpError {
            status: head.status.as_u16(),
            retry_after: wait.and_then(|value| retry_after(value.to_str().ok()?, now)),
            message: refusal_message(&body),
        }
    }
}
