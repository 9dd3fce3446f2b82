//! Responses as they proceed in time. They render bytes; the pacer writes them, and advances a response again when more is due.

mod misbehaving;
mod streamed;
mod whole;

pub(crate) use misbehaving::MisbehavingResponse;
pub(crate) use streamed::StreamedResponse;
pub(crate) use whole::WholeResponse;

use precise_time::MonotonicTime;

use crate::{api::ResponseFacts, deadlines::Deadlines, stats::WrittenTokens, text::Text};

/// The bytes that are to be written now. One for each core, so that no response needs a buffer of its own.
#[derive(Debug, Default)]
pub(crate) struct OutputBuffer {
    pub bytes: Vec<u8>,
    /// The tokens in `bytes`.
    pub tokens: Vec<WrittenTokens>,
    /// When the bytes were complete; the write follows at once.
    pub at: Option<MonotonicTime>,
}

/// How a response continues after its bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextStep {
    At(MonotonicTime),
    Finished(ConnectionFate),
}

/// What happens to the connection after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionFate {
    /// It may serve another request.
    KeepAlive,
    /// It is closed in an orderly way.
    Close,
    /// It is reset.
    Reset,
    /// It stays open, but nothing is written any more, until the client closes it.
    Silence,
    /// The client has closed it.
    Gone,
}

impl ConnectionFate {
    pub(crate) const fn orderly(keep_alive: bool) -> Self {
        if keep_alive { Self::KeepAlive } else { Self::Close }
    }
}

/// The content of a response, and when its tokens are due.
#[derive(Debug)]
pub(crate) struct ResponsePlan {
    pub facts: ResponseFacts,
    pub text: Text,
    pub tokens_per_chunk: u32,
    pub deadlines: Deadlines,
    pub received: MonotonicTime,
    pub keep_alive: bool,
}

/// A response in progress.
#[derive(Debug)]
pub(crate) enum Response {
    Streamed(StreamedResponse),
    Whole(WholeResponse),
    Misbehaving(MisbehavingResponse),
}

impl Response {
    /// Appends to `output` what is due.
    pub(crate) fn advance(&mut self, now: MonotonicTime, output: &mut OutputBuffer) -> NextStep {
        match self {
            Self::Streamed(response) => response.advance(now, output),
            Self::Whole(response) => response.advance(now, output),
            Self::Misbehaving(response) => response.advance(now, output),
        }
    }
}
