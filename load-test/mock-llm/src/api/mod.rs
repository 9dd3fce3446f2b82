//! The three APIs: what they ask, and the shapes of their answers.

mod errors;
mod events;
mod request;
mod whole;

pub(crate) use errors::{error_answer, error_body};
pub(crate) use events::{Channel, EventWriter};
pub(crate) use request::Ask;
pub(crate) use whole::whole_body;

use precise_time::MonotonicTime;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Completions,
    Messages,
}

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
}

impl Finish {
    const fn name(self, api: Api) -> &'static str {
        match (self, api) {
            (Self::Stop, Api::Messages) => "end_turn",
            (Self::Length, Api::Messages) => "max_tokens",
            (Self::Stop, _) => "stop",
            (Self::Length, _) => "length",
        }
    }
}

/// What answers say about themselves, in all APIs.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub api: Api,
    /// The request's number: the answer's id.
    pub number: u64,
    /// Unix time of the server's start, in s.
    pub created: u64,
    /// As a JSON string, quotes included.
    pub model: String,
    pub input_tokens: u32,
    pub output_tokens: u32,
    pub finish: Finish,
    pub states_usage: bool,
}

/// When an answer's tokens were due and written, for clients that measure themselves: the field `mock_llm`. All in ns of
/// `CLOCK_MONOTONIC`. Where the client did not read, `written` is the first attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamps {
    received_ns: u64,
    first_token_due_ns: u64,
    first_token_written_ns: u64,
    last_token_due_ns: u64,
    last_token_written_ns: u64,
}

impl Stamps {
    pub(crate) fn new(received: MonotonicTime) -> Self {
        Self {
            received_ns: received.as_nanos(),
            first_token_due_ns: 0,
            first_token_written_ns: 0,
            last_token_due_ns: 0,
            last_token_written_ns: 0,
        }
    }

    pub(crate) fn first(&mut self, due: MonotonicTime, written: MonotonicTime) {
        self.first_token_due_ns = due.as_nanos();
        self.first_token_written_ns = written.as_nanos();
    }

    pub(crate) fn last(&mut self, due: MonotonicTime, written: MonotonicTime) {
        self.last_token_due_ns = due.as_nanos();
        self.last_token_written_ns = written.as_nanos();
    }

    /// `"mock_llm":{…}`.
    fn field(&self) -> String {
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
