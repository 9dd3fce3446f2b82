use std::time::Duration;

use precise_time::MonotonicTime;
use serde::{Deserialize, Deserializer};

use crate::Outcome;

/// The kind of a part of a response's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// The answer's text.
    Answer,
    /// Text of the reasoning that comes before the answer (`reasoning_content`, `reasoning`, Anthropic's `thinking`).
    Reasoning,
    /// A tool's name, or a part of its arguments' JSON.
    ToolCall,
}

/// Receives every non-empty part of a response's content, in order. `()` ignores them.
pub trait Observer {
    /// An event with content was received at `at`. One or more calls of [`Observer::content`] with its texts follow.
    fn chunk(&mut self, _at: MonotonicTime) {}

    /// Receives a non-empty text, whose last byte was received at `at`. Called between two reads of the socket, so a slow
    /// implementation delays every request of this thread.
    fn content(&mut self, at: MonotonicTime, kind: ContentKind, text: &str);
}

impl Observer for () {
    fn content(&mut self, _at: MonotonicTime, _kind: ContentKind, _text: &str) {}
}

/// The record of one request.
///
/// Those times that are known are ordered: `connected` ≤ `sent` ≤ `response_head` ≤ `first_content` ≤ `last_content` ≤ `closed`.
#[derive(Debug)]
pub struct Exchange {
    /// When the connection was established (TLS included); `None` where an open one was used again or none could be established.
    pub connected: Option<MonotonicTime>,
    /// Just before the first byte of the request was written to the socket; `None` where none was.
    pub sent: Option<MonotonicTime>,
    /// When the response's status and headers were received.
    pub response_head: Option<MonotonicTime>,
    /// When the first non-empty content of any kind was received. Roles, empty deltas, usage and comments are not content.
    pub first_content: Option<MonotonicTime>,
    /// By how much [`Self::first_content`] may be too late. Zero where it is the kernel's timestamp and no later bytes were received
    /// together with the content.
    pub first_content_uncertainty: Duration,
    /// When the first content of kind [`ContentKind::Answer`] was received.
    pub first_answer: Option<MonotonicTime>,
    /// When the last content of any kind was received. In a response that is not streamed, all content counts as received with the body's
    /// last byte.
    pub last_content: Option<MonotonicTime>,
    /// When the end of the response's body was received; `None` where it never was.
    pub closed: Option<MonotonicTime>,
    /// Whether the response contained reasoning. Servers that do not send it may still count it in the usage.
    pub has_reasoning: bool,
    /// Number of events with content; 1 for a response that is not streamed.
    pub content_chunks: u32,
    /// Bytes of the response's body.
    pub bytes: u64,
    /// The server's own count of tokens.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub finish_reason: Option<FinishReason>,
    /// The mock server's own timestamps of this request.
    pub server_timestamps: Option<ServerTimestamps>,
    /// How the request ended.
    pub outcome: Outcome,
    /// Whether the request used a connection that had served another one.
    pub reused: bool,
    /// Whether the request was sent a second time, on a new connection, because the server had closed the first connection without a
    /// response. `sent` is the time of the second attempt.
    pub sent_again: bool,
}

impl Exchange {
    /// The record of a request that begins now. Its outcome is a timeout until another one replaces it.
    pub(crate) fn new() -> Self {
        Self {
            connected: None,
            sent: None,
            response_head: None,
            first_content: None,
            first_content_uncertainty: Duration::ZERO,
            first_answer: None,
            last_content: None,
            closed: None,
            has_reasoning: false,
            content_chunks: 0,
            bytes: 0,
            usage: None,
            finish_reason: None,
            server_timestamps: None,
            outcome: Outcome::TimedOut,
            reused: false,
            sent_again: false,
        }
    }
}

/// The server's own count of tokens. Of several reports in a stream the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: Option<u64>,
    /// Generated tokens, reasoning included.
    pub output_tokens: Option<u64>,
    /// Generated tokens that are reasoning, where the server counts them separately.
    pub reasoning_tokens: Option<u64>,
}

/// Why the model stopped (OpenAI's `finish_reason`, Anthropic's `stop_reason`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// The text was complete (`stop`, `end_turn`, `stop_sequence`, `eos_token`).
    Stop,
    /// The limit of tokens was reached (`length`, `max_tokens`).
    Length,
    /// The model calls a tool (`tool_calls`, `function_call`, `tool_use`).
    ToolCalls,
    /// A filter ended the text (`content_filter`, `refusal`).
    Filtered,
    /// Any other reason, in the server's word.
    Other(Box<str>),
}

impl Usage {
    /// These counts with those of `later` in place of the same ones: Anthropic sends the input's count first and the output's last.
    pub(crate) fn updated(self, later: Self) -> Self {
        Self {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            reasoning_tokens: later.reasoning_tokens.or(self.reasoning_tokens),
        }
    }
}

impl FinishReason {
    /// The reason that a server's word stands for.
    pub(crate) fn from_word(word: &str) -> Self {
        match word {
            "stop" | "end_turn" | "stop_sequence" | "eos_token" => Self::Stop,
            "length" | "max_tokens" => Self::Length,
            "tool_calls" | "function_call" | "tool_use" => Self::ToolCalls,
            "content_filter" | "refusal" => Self::Filtered,
            other => Self::Other(other.into()),
        }
    }
}

/// When the mock server received a request and wrote its tokens, by the monotonic clock that the client uses too: the field
/// `mock_llm` of the last event, in ns. The time of a write is taken just before the system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ServerTimestamps {
    /// When the read of the request's last byte returned.
    #[serde(rename = "received_ns", deserialize_with = "from_nanos")]
    pub received: MonotonicTime,
    /// When the first token should have been written.
    #[serde(rename = "first_token_due_ns", deserialize_with = "from_nanos")]
    pub first_token_due: MonotonicTime,
    /// When the first token was written.
    #[serde(rename = "first_token_written_ns", deserialize_with = "from_nanos")]
    pub first_token_written: MonotonicTime,
    /// When the last token should have been written.
    #[serde(rename = "last_token_due_ns", deserialize_with = "from_nanos")]
    pub last_token_due: MonotonicTime,
    /// When the last token was written.
    #[serde(rename = "last_token_written_ns", deserialize_with = "from_nanos")]
    pub last_token_written: MonotonicTime,
}

fn from_nanos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MonotonicTime, D::Error> {
    u64::deserialize(deserializer).map(MonotonicTime::from_nanos)
}
