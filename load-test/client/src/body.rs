//! The body of an answer, as it comes.

use std::{
    future::poll_fn,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout_at};

use crate::{
    Exchange, Observer, Outcome, StreamError,
    answer::Answer,
    connection::{Answered, Body, Connection, Said},
    excerpt::{refusal_message, retry_after},
    http1::TransportError,
};

/// What of a refusal is read. More than a message has nothing to say.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// What a part of an answer has led to.
enum Heard {
    /// The API's own end.
    End,
    Failed(StreamError),
}

/// Follows an answer to its end. Then waits up to `end_timeout` for the end of the HTTP message. Also tells whether the connection may
/// serve another request.
pub(crate) async fn follow<O: Observer>(
    connection: &mut Connection,
    answered: Answered,
    mut answer: Answer<'_, O>,
    end_timeout: Duration,
) -> Result<(Outcome, bool), Outcome> {
    let Answered { head, rest } = answered;
    let mut framing = head.framing;
    let mut hear = |connection: &mut Connection, bytes: &[u8]| {
        let heard = answer.frame(connection.arrival(), bytes);
        if answer.has_content() {
            connection.content_began();
        }
        match heard {
            Err(error) => Said::Enough(Heard::Failed(error)),
            Ok(()) if answer.is_ended() => Said::Noted(Heard::End),
            Ok(()) => Said::Nothing,
        }
    };
    let mut body = connection.pieces(&mut framing, &rest, &mut hear);
    drop(rest);
    let mut end_by = None;
    loop {
        let read = poll_fn(|cx| connection.poll_body(cx, &mut framing, &mut hear));
        match body.take() {
            None => match end_by {
                None => body = Some(read.await),
                Some(end_by) => match timeout_at(end_by, read).await {
                    Ok(read) => body = Some(read),
                    // Nothing is missing but the end of the HTTP message.
                    Err(_) => return Ok((Outcome::Ok, false)),
                },
            },
            Some(Body::Taken(Heard::End)) => {
                end_by.get_or_insert_with(|| Instant::now() + end_timeout);
            }
            Some(Body::Taken(Heard::Failed(error))) => return Err(Outcome::StreamError(error)),
            Some(Body::Over { is_clean }) => {
                let outcome = answer.end(connection.arrival());
                return Ok((outcome, is_clean && head.keeps_alive));
            }
            // As above.
            Some(Body::Broken(_)) if end_by.is_some() => return Ok((Outcome::Ok, false)),
            Some(Body::Broken(error)) => return Err(failed(error)),
        }
    }
}

/// Reads why the server refuses, as far as it says so within `timeout`. Also tells whether the connection may serve another request.
pub(crate) async fn refusal(
    connection: &mut Connection,
    answered: Answered,
    record: &mut Exchange,
    timeout: Duration,
) -> (Outcome, bool) {
    let Answered { head, rest } = answered;
    let mut framing = head.framing;
    let mut message = Vec::new();
    let mut hear = |_: &mut Connection, bytes: &[u8]| {
        message.extend_from_slice(bytes);
        if message.len() < MAX_REFUSAL_BYTES {
            Said::Nothing
        } else {
            Said::Enough(())
        }
    };
    let mut body = connection.pieces(&mut framing, &rest, &mut hear);
    if body.is_none() {
        let read = poll_fn(|cx| connection.poll_body(cx, &mut framing, &mut hear));
        // The status has said it: what has come by then is the message.
        body = tokio::time::timeout(timeout, read).await.ok();
    }
    record.bytes += message.len() as u64;
    let is_reusable = match body {
        Some(Body::Over { is_clean }) => {
            record.closed = Some(connection.arrival().at);
            is_clean && head.keeps_alive
        }
        Some(Body::Taken(()) | Body::Broken(_)) | None => false,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "a date in an answer means the clock on the wall; nothing is measured by it"
    )]
    let now = SystemTime::now();
    let outcome = Outcome::HttpError {
        status: head.status,
        retry_after: head.retry_after.and_then(|value| retry_after(&value, now)),
        message: refusal_message(&message),
    };
    (outcome, is_reusable)
}

pub(crate) fn failed(error: TransportError) -> Outcome {
    Outcome::StreamError(StreamError::Transport(error))
}
