use llm_client::{Exchange, Outcome, Usage};
use precise_time::MonotonicTime;
use shared_types::ErrorChain;

use super::response_observer::ReceivedContent;
use crate::record::{Class, RequestRecord};

/// The class of an outcome, the HTTP status, and what went wrong, in words.
fn classify(exchange: &Exchange) -> (Class, u16, Option<Box<str>>) {
    let status = if exchange.response_head.is_some() { 200 } else { 0 };
    match &exchange.outcome {
        Outcome::Ok => (Class::Ok, status, None),
        Outcome::HttpError { status, message, .. } => {
            let text = format!("HTTP {status}: {message}");
            (Class::HttpError, *status, Some(text.into()))
        }
        Outcome::StreamError(error) => (
            Class::StreamError,
            status,
            Some(ErrorChain(error).to_string().into()),
        ),
        Outcome::Truncated => (
            Class::Truncated,
            status,
            Some("the answer ended without the API's end".into()),
        ),
        Outcome::TimedOut => (
            Class::TimedOut,
            status,
            Some("the request's timeout passed".into()),
        ),
        Outcome::Dropped(error) => (Class::Dropped, status, Some(ErrorChain(error).to_string().into())),
    }
}

/// The record of a request of which nothing has happened yet.
pub(super) fn unsent(index: u64, intended: MonotonicTime, thread: u16, prompt_tokens: u32) -> RequestRecord {
    RequestRecord {
        index,
        intended,
        sent: None,
        connected: None,
        response_head: None,
        first_content: None,
        first_answer: None,
        last_content: None,
        closed: intended,
        server_wrote_first: None,
        prompt_tokens,
        server_input_tokens: None,
        server_output_tokens: None,
        hidden_tokens: 0,
        client_output_tokens: None,
        chunks: 0,
        sent_again: false,
        status: 0,
        class: Class::Dropped,
        thread,
    }
}

/// The record of an exchange that ended by itself at `ended`.
pub(super) fn of_exchange(
    unsent: RequestRecord,
    exchange: &Exchange,
    ended: MonotonicTime,
) -> (RequestRecord, Option<Box<str>>) {
    let (class, status, error) = classify(exchange);
    let Usage {
        input_tokens,
        output_tokens,
        reasoning_tokens,
    } = exchange.usage.unwrap_or_default();
    let record = RequestRecord {
        sent: exchange.sent,
        connected: exchange.connected,
        response_head: exchange.response_head,
        first_content: exchange.first_content,
        first_answer: exchange.first_answer,
        last_content: exchange.last_content,
        closed: exchange.closed.unwrap_or(ended),
        server_wrote_first: exchange
            .server_timestamps
            .map(|timestamps| timestamps.first_token_written),
        server_input_tokens: input_tokens.map(saturated),
        server_output_tokens: output_tokens.map(saturated),
        hidden_tokens: reasoning_tokens
            .filter(|_| !exchange.has_reasoning)
            .map_or(0, saturated),
        chunks: exchange.content_chunks,
        sent_again: exchange.sent_again,
        status,
        class,
        ..unsent
    };
    (record, error)
}

/// The record of an exchange that was cancelled, made of the content that was received. `sent` is when the request was begun:
/// the time of its first byte is lost with the exchange.
pub(super) fn of_cancelled(
    unsent: RequestRecord,
    received: ReceivedContent,
    sent: Option<MonotonicTime>,
    ended: MonotonicTime,
    is_interrupted: bool,
) -> (RequestRecord, Option<Box<str>>) {
    let record = RequestRecord {
        sent,
        first_content: received.first,
        first_answer: received.first_answer,
        last_content: received.last,
        closed: ended,
        chunks: received.chunks,
        status: if received.first.is_some() { 200 } else { 0 },
        class: Class::Cancelled,
        ..unsent
    };
    let reason = if is_interrupted {
        "still in flight when the run was stopped"
    } else {
        "still in flight when the time to drain was over"
    };
    (record, Some(reason.into()))
}

fn saturated(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
