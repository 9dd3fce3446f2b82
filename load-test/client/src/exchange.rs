use std::time::Duration;

use precise_time::MonotonicTime;

use crate::Outcome;

/// What a part of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// The answer's text.
    Answer,
    /// Text of the reasoning that comes before the answer (`reasoning_content`, `reasoning`, Anthropic's `thinking`).
    Reasoning,
    /// A tool's name, or a part of its arguments' JSON.
    ToolCall,
}

/// Is told every non-empty part of an answer, in its order. `()` listens to nothing.
pub trait Observer {
    /// An event with content has come, `at` that moment; what it holds follows as one or more [`Observer::content`].
    fn chunk(&mut self, _at: MonotonicTime) {}

    /// `text` is not empty; `at` is when its last byte came. Called between two reads of the
    /// socket: what takes long here delays every request of this thread.
    fn content(&mut self, at: MonotonicTime, kind: ContentKind, text: &str);
}

impl Observer for () {
    fn content(&mut self, _at: MonotonicTime, _kind: ContentKind, _text: &str) {}
}

/// Everything that is known about one request when it has ended.
///
/// The stamps that are there are ordered: `connected` ≤ `sent` ≤ `response_head` ≤ `first_content` ≤ `last_content` ≤ `closed`.
#[derive(Debug)]
pub struct Exchange {
    /// When the connection stood (TLS included); `None` where an open one was used again, or none could be made.
    pub connected: Option<MonotonicTime>,
    /// Just before the first byte of the request was written to the socket; `None` where none was.
    pub sent: Option<MonotonicTime>,
    /// When the response's status and headers had come.
    pub response_head: Option<MonotonicTime>,
    /// The first non-empty content of any kind. A role, an empty delta, usage and comments are none.
    pub first_content: Option<MonotonicTime>,
    /// By how much [`Self::first_content`] may be too late: zero where it is the kernel's stamp of what brought it and of nothing that
    /// came behind before the read.
    pub first_content_uncertainty: Duration,
    /// The first content that is [`ContentKind::Answer`].
    pub first_answer: Option<MonotonicTime>,
    /// The last content of any kind. In an answer that is not streamed, all content comes with the body's last byte.
    pub last_content: Option<MonotonicTime>,
    /// When the end of the response's body had come; `None` where it never did.
    pub closed: Option<MonotonicTime>,
    /// Whether the server told its reasoning. Where it did not, its usage may still count it.
    pub has_reasoning: bool,
    /// Events that carried content; 1 for an answer that is not streamed.
    pub content_chunks: u32,
    /// Bytes of the response's body.
    pub bytes: u64,
    /// The tokens as the server counted them.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub finish: Option<Finish>,
    /// The mock server's own stamps of this request.
    pub server_stamps: Option<ServerStamps>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the request went over a connection that had served another.
    pub reused: bool,
    /// Whether it was sent a second time, on a new connection, because the server had closed the first instead of answering. `sent` is
    /// the second time.
    pub sent_again: bool,
}

impl Exchange {
    /// Nothing has happened yet. It has timed out until something else is known.
    pub(crate) fn begun() -> Self {
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
            finish: None,
            server_stamps: None,
            outcome: Outcome::TimedOut,
            reused: false,
            sent_again: false,
        }
    }
}

/// The server's own count of tokens. In a stream the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt, with those that were read from or written to a cache.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer, its reasoning included.
    pub output_tokens: Option<u64>,
    /// Those of the output that are reasoning, where the server tells them apart.
    pub reasoning_tokens: Option<u64>,
}

/// Why the model stopped (OpenAI's `finish_reason`, Anthropic's `stop_reason`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// It was done (`stop`, `end_turn`, `stop_sequence`, `eos_token`).
    Stop,
    /// The limit of tokens was reached (`length`, `max_tokens`).
    Length,
    /// It calls a tool (`tool_calls`, `function_call`, `tool_use`).
    ToolCalls,
    /// A filter ended it (`content_filter`, `refusal`).
    Filtered,
    /// Anything else, in the server's word.
    Other(Box<str>),
}

impl Usage {
    /// What `later` says replaces what was known: Anthropic sends the input's count first and the output's last.
    pub(crate) fn updated(self, later: Self) -> Self {
        Self {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
            reasoning_tokens: later.reasoning_tokens.or(self.reasoning_tokens),
        }
    }
}

impl Finish {
    /// What a server's word means.
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

/// When the mock server received a request and wrote its tokens, by the clock that the client uses too: the field
/// `mock_llm` of the last event. "Written" is just before the call that wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerStamps {
    /// When the read of the request's last byte returned.
    pub received: MonotonicTime,
    /// When the first token should have been written.
    pub first_token_due: MonotonicTime,
    /// When the first token was written.
    pub first_token_written: MonotonicTime,
    /// When the last token should have been written.
    pub last_token_due: MonotonicTime,
    /// When the last token was written.
    pub last_token_written: MonotonicTime,
}
