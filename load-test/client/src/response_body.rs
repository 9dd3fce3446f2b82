use std::{
    future::poll_fn,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout_at};

use crate::{
    Exchange, Observer, Outcome, StreamError, TransportError,
    excerpt::{refusal_message, retry_after},
    response_recorder::ResponseRecorder,
    wire::{BodyRead, Connection, PieceResult, ResponseStart},
};

/// How much of an error response's body is read, in bytes; its message needs less.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// Reads the body of a successful response to its end. After the API's own end it waits up to `end_timeout` for the end of the HTTP
/// message. The flag of the result says whether the connection may serve another request.
pub(crate) async fn follow_response<O: Observer>(
    connection: &mut Connection,
    response: ResponseStart,
    mut recorder: ResponseRecorder<'_, O>,
    end_timeout: Duration,
) -> Result<(Outcome, bool), Outcome> {
    let ResponseStart { head, body_start } = response;
    let mut framing = head.framing;
    // Reports the API's own end, or an error.
    let mut record = |connection: &mut Connection, bytes: &[u8]| {
        let recorded = recorder.push(connection.received(), bytes);
        if recorder.has_content() {
            connection.content_began();
        }
        match recorded {
            Err(error) => PieceResult::ReportNow(Err(error)),
            Ok(()) if recorder.is_ended() => PieceResult::ReportAfterRead(Ok(())),
            Ok(()) => PieceResult::Continue,
        }
    };
    let mut body = connection.take_pieces(&mut framing, &body_start, &mut record);
    drop(body_start);
    let mut end_by = None;
    loop {
        let read = poll_fn(|cx| connection.poll_body(cx, &mut framing, &mut record));
        match body.take() {
            None => match end_by {
                None => body = Some(read.await),
                Some(end_by) => match timeout_at(end_by, read).await {
                    Ok(read) => body = Some(read),
                    // Only the end of the HTTP message is missing.
                    Err(_) => return Ok((Outcome::Ok, false)),
                },
            },
            Some(BodyRead::Reported(Ok(()))) => {
                end_by.get_or_insert_with(|| Instant::now() + end_timeout);
            }
            Some(BodyRead::Reported(Err(error))) => return Err(Outcome::StreamError(error)),
            Some(BodyRead::Ended { is_clean }) => {
                let outcome = recorder.end(connection.received());
                return Ok((outcome, is_clean && head.keeps_alive));
            }
            // Only the end of the HTTP message is missing.
            Some(BodyRead::Failed(_)) if end_by.is_some() => return Ok((Outcome::Ok, false)),
            Some(BodyRead::Failed(error)) => return Err(transport_failure(error)),
        }
    }
}

/// Reads the body of an error response for at most `timeout`. The flag of the result says whether the connection may serve another
/// request.
pub(crate) async fn read_refusal(
    connection: &mut Connection,
    response: ResponseStart,
    record: &mut Exchange,
    timeout: Duration,
) -> (Outcome, bool) {
    let ResponseStart { head, body_start } = response;
    let mut framing = head.framing;
    let mut message = Vec::new();
    let mut collect = |_: &mut Connection, bytes: &[u8]| {
        message.extend_from_slice(bytes);
        if message.len() < MAX_REFUSAL_BYTES {
            PieceResult::Continue
        } else {
            PieceResult::ReportNow(())
        }
    };
    let mut body = connection.take_pieces(&mut framing, &body_start, &mut collect);
    if body.is_none() {
        let read = poll_fn(|cx| connection.poll_body(cx, &mut framing, &mut collect));
        // After the timeout, the part that was received is the message.
        body = tokio::time::timeout(timeout, read).await.ok();
    }
    record.bytes += message.len() as u64;
    let is_reusable = match body {
        Some(BodyRead::Ended { is_clean }) => {
            record.closed = Some(connection.received().at);
            is_clean && head.keeps_alive
        }
        Some(BodyRead::Reported(()) | BodyRead::Failed(_)) | None => false,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the date in Retry-After is compared with the wall clock; no measurement uses it"
    )]
    let now = SystemTime::now();
    let outcome = Outcome::HttpError {
        status: head.status,
        retry_after: head.retry_after.and_then(|value| retry_after(&value, now)),
        message: refusal_message(&message),
    };
    (outcome, is_reusable)
}

pub(crate) fn transport_failure(error: TransportError) -> Outcome {
    Outcome::StreamError(StreamError::Transport(error))
}
