//! The APIs that the server speaks: one file for each, and what they have in common. To add an API, write such a file and add it to
//! [`ALL`].

mod anthropic;
mod event_writer;
mod generation_request;
mod openai;
mod openai_chat;
mod openai_completions;

use std::fmt::Debug;

use precise_time::MonotonicTime;
use serde_json::Value;

use self::{event_writer::Stream, generation_request::Prompts};
pub(crate) use self::{
    event_writer::{DeltaKind, EventWriter},
    generation_request::GenerationRequest,
    openai_chat::OpenAiChat,
};

/// Every API there is.
pub(crate) const ALL: &[&dyn Api] = &[
    &OpenAiChat,
    &openai_completions::OpenAiCompletions,
    &anthropic::AnthropicMessages,
];

/// What distinguishes one API from another. Events are texts up to the end of their last line.
pub(crate) trait Api: Debug + Sync {
    /// The path of its requests.
    fn path(&self) -> &'static str;

    /// The name of the field with the prompt, and its value.
    fn prompt(&self, prompts: Prompts) -> (&'static str, Option<generation_request::Prompt>);

    /// Whether requests have to state `max_tokens`.
    fn requires_max_tokens(&self) -> bool {
        false
    }

    /// Whether streams state their usage unasked.
    fn always_states_usage(&self) -> bool {
        false
    }

    /// An error, as a body.
    fn error(&self, status: u16, message: &str) -> Value;

    /// The body of a response that is not streamed. `text` needs no escapes; `timestamps` is the field `mock_llm`.
    fn whole_body(&self, facts: &ResponseFacts, text: &str, timestamps: &str) -> String;

    /// The beginning of every event of a stream, where events have one in common.
    fn event_start(&self, _facts: &ResponseFacts) -> String {
        String::new()
    }

    /// What comes before and after a token's text in its event.
    fn around_text(&self, stream: &Stream) -> (String, &'static str);

    /// The events before the first token.
    fn opening(&self, _stream: &Stream) -> Vec<String> {
        Vec::new()
    }

    /// The events that end a block of deltas of one kind.
    fn end_of_block(&self, _stream: &Stream) -> Vec<String> {
        Vec::new()
    }

    /// The events that begin a block of deltas of one kind.
    fn start_of_block(&self, _stream: &Stream) -> Vec<String> {
        Vec::new()
    }

    /// The events that begin a tool call, where the start of a block does not.
    fn tool_call(&self, _stream: &Stream) -> Vec<String> {
        Vec::new()
    }

    /// An event without content.
    fn empty_event(&self, stream: &Stream) -> String;

    /// An error in the middle of a stream.
    fn error_event(&self, message: &str) -> String {
        format!("data: {}", self.error(500, message))
    }

    /// The events after the last token. The last one is the API's end; `timestamps` is in the one before it.
    fn closing(&self, stream: &Stream, timestamps: &str) -> Vec<String>;
}

/// Why a response ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinishReason {
    Stop,
    Length,
}

/// What responses of all APIs state about themselves.
#[derive(Debug, Clone)]
pub(crate) struct ResponseFacts {
    pub api: &'static dyn Api,
    /// The request's number, which is the response's id.
    pub number: u64,
    /// Unix time of the server's start, in s.
    pub created: u64,
    /// As a JSON string, quotes included.
    pub model: String,
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub finish_reason: FinishReason,
    pub states_usage: bool,
}

/// When the tokens of a response were due and written, for clients that measure themselves: the field `mock_llm`. In ns of
/// `CLOCK_MONOTONIC`. When a write is blocked, because the client did not read, the time is that of the first attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenTimestamps {
    received_ns: u64,
    first_token_due_ns: u64,
    first_token_written_ns: u64,
    last_token_due_ns: u64,
    last_token_written_ns: u64,
}

impl TokenTimestamps {
    pub(crate) fn new(received: MonotonicTime) -> Self {
        Self {
            received_ns: received.as_nanos(),
            first_token_due_ns: 0,
            first_token_written_ns: 0,
            last_token_due_ns: 0,
            last_token_written_ns: 0,
        }
    }

    pub(crate) fn set_first(&mut self, due: MonotonicTime, written: MonotonicTime) {
        self.first_token_due_ns = due.as_nanos();
        self.first_token_written_ns = written.as_nanos();
    }

    pub(crate) fn set_last(&mut self, due: MonotonicTime, written: MonotonicTime) {
        self.last_token_due_ns = due.as_nanos();
        self.last_token_written_ns = written.as_nanos();
    }

    /// `"mock_llm":{…}`.
    pub(crate) fn field(&self) -> String {
        let Self {
            received_ns,
            first_token_due_ns,
            first_token_written_ns,
            last_token_due_ns,
            last_token_written_ns,
        } = self;
        format!(
            r#""mock_llm":{{"received_ns":{received_ns},"first_token_due_ns":{first_token_due_ns},"first_token_written_ns":{first_token_written_ns},"last_token_due_ns":{last_token_due_ns},"last_token_written_ns":{last_token_written_ns}}}"#
        )
    }
}
