//! What is kept of a request.

use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

/// How a request ended. Every scheduled request ends in exactly one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The whole answer came.
    Ok,
    /// An answer with a status other than 2xx.
    HttpError,
    /// The connection or the stream broke, or said that it failed.
    StreamError,
    /// The body ended without the API's end.
    Truncated,
    /// The request's own timeout passed.
    TimedOut,
    /// Never sent: the client could not.
    Dropped,
    /// In flight when the run's drain ended.
    Cancelled,
}

impl Class {
    /// All there are, in the order of their numbers.
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

/// A request's record: compact, because a run keeps all of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestRecord {
    /// Position in the schedule, from 0.
    pub index: u64,
    /// When it was due.
    pub intended: MonotonicTime,
    /// First byte handed to the socket.
    pub sent: Option<MonotonicTime>,
    /// Connection made; `None` where one was used again.
    pub connected: Option<MonotonicTime>,
    /// Head of the response read.
    pub response_head: Option<MonotonicTime>,
    /// First non-empty content, reasoning or tool-call delta read.
    pub first_content: Option<MonotonicTime>,
    /// First non-empty delta read that is not reasoning.
    pub first_answer: Option<MonotonicTime>,
    /// Last non-empty delta read.
    pub last_content: Option<MonotonicTime>,
    /// The exchange is over.
    pub closed: MonotonicTime,
    /// When the mock server wrote the first token; only it says so.
    pub server_wrote_first: Option<MonotonicTime>,
    /// Tokens of the prompt, counted when it was made.
    pub prompt_tokens: u32,
    /// Tokens of the prompt as the server counts them.
    pub server_input_tokens: Option<u32>,
    /// Output tokens as the server counts them.
    pub server_output_tokens: Option<u32>,
    /// Of those the ones that were never sent: a reasoning that the server kept to itself. They took time before the first
    /// content, so they are in no pace of what came.
    pub hidden_tokens: u32,
    /// Output tokens as counted here, after the run, where that was done.
    pub client_output_tokens: Option<u32>,
    /// Deltas with content.
    pub chunks: u32,
    /// Sent once more on a new connection, because the server had closed the kept one instead of answering.
    pub sent_again: bool,
    /// HTTP status, 0 where none came.
    pub status: u16,
    /// How it ended.
    pub class: Class,
    /// Worker thread that sent it.
    pub thread: u16,
}

/// A request that has ended, on its way to the journal.
#[derive(Debug)]
pub struct Finished {
    /// What is kept.
    pub record: RequestRecord,
    /// What went wrong, in words.
    pub error: Option<Box<str>>,
    /// The answer's text, where it is to be counted or checked after the run.
    pub text: Option<Box<str>>,
    /// Stamps of all deltas, where they were asked for.
    pub chunk_timestamps: Option<Box<[MonotonicTime]>>,
}
