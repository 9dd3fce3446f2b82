//! The record of one request.

use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

/// How a request ended. Every scheduled request ends in exactly one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The complete answer was received.
    Ok,
    /// The response has a status other than 2xx.
    HttpError,
    /// The connection or the stream broke, or the stream reported an error.
    StreamError,
    /// The body ended before the API's end marker.
    Truncated,
    /// The request's own timeout passed.
    TimedOut,
    /// Never sent, because the client could not.
    Dropped,
    /// In flight when the run's drain ended.
    Cancelled,
}

impl Class {
    /// All classes, in the order of their discriminants.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::HttpError,
        Self::StreamError,
        Self::Truncated,
        Self::TimedOut,
        Self::Dropped,
        Self::Cancelled,
    ];
}

/// The record of one request. Compact, because a run keeps the records of all requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestRecord {
    /// Position in the schedule, from 0.
    pub index: u64,
    /// When it was due.
    pub intended: MonotonicTime,
    /// Just before the first byte was written to the socket; `None` where none was.
    pub sent: Option<MonotonicTime>,
    /// When the connection was made; `None` where an open one was reused.
    pub connected: Option<MonotonicTime>,
    /// When the head of the response was received.
    pub response_head: Option<MonotonicTime>,
    /// When the first non-empty content, reasoning or tool-call delta was received.
    pub first_content: Option<MonotonicTime>,
    /// When the first non-empty delta that is not reasoning was received.
    pub first_answer: Option<MonotonicTime>,
    /// When the last non-empty delta was received.
    pub last_content: Option<MonotonicTime>,
    /// When the exchange was over.
    pub closed: MonotonicTime,
    /// When the server wrote the first token; only the mock server reports it.
    pub server_wrote_first: Option<MonotonicTime>,
    /// Tokens of the prompt, counted when it was made.
    pub prompt_tokens: u32,
    /// Tokens of the prompt as the server counts them.
    pub server_input_tokens: Option<u32>,
    /// Output tokens as the server counts them.
    pub server_output_tokens: Option<u32>,
    /// Output tokens of reasoning that the server counted and did not send. They took time before the first content, so they do
    /// not count in the time per output token.
    pub hidden_tokens: u32,
    /// Output tokens as the client counts them after the run; `None` where it did not.
    pub client_output_tokens: Option<u32>,
    /// Number of deltas with content.
    pub chunks: u32,
    /// Whether it was sent again on a new connection, because the server had closed the reused one instead of answering.
    pub sent_again: bool,
    /// HTTP status; 0 where none was received.
    pub status: u16,
    /// How it ended.
    pub class: Class,
    /// Number of the worker thread that sent it.
    pub thread: u16,
}

/// A request that has ended, on its way to the journal.
#[derive(Debug)]
pub struct FinishedRequest {
    /// Its record.
    pub record: RequestRecord,
    /// The error message of a request that failed.
    pub error: Option<Box<str>>,
    /// The answer's text, where its tokens are counted or it is checked after the run.
    pub text: Option<Box<str>>,
    /// When each delta was received, where that is recorded.
    pub chunk_timestamps: Option<Box<[MonotonicTime]>>,
}
