//! Answers as they go on in time. They render; the engine writes, and wakes them when they are due.

mod script;
mod streamed;
mod whole;

pub(crate) use script::Script;
pub(crate) use streamed::Streamed;
pub(crate) use whole::Whole;

use precise_time::MonotonicTime;

use crate::{api::About, deadlines::Deadlines, stats::Mark, text::Text};

/// What is to be written now. One per core, so that no answer needs a buffer of its own.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub bytes: Vec<u8>,
    /// The tokens among the bytes.
    pub marks: Vec<Mark>,
    /// When the bytes were complete; the write follows at once.
    pub at: Option<MonotonicTime>,
}

/// What an answer waits for once its bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    At(MonotonicTime),
    Finished(Ending),
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The next request, if the client wants one.
    KeepAlive,
    /// It is closed in order.
    Close,
    /// It is reset.
    Reset,
    /// Nothing comes any more; the client has to go.
    Silence,
    /// The client has gone.
    Gone,
}

/// An answer's content, and when its tokens are due.
#[derive(Debug)]
pub(crate) struct Plan {
    pub about: About,
    pub text: Text,
    pub tokens_per_chunk: u32,
    pub deadlines: Deadlines,
    pub received: MonotonicTime,
    pub keep_alive: bool,
}

/// An answer under way.
#[derive(Debug)]
pub(crate) enum Answering {
    Streamed(Streamed),
    Whole(Whole),
    Script(Script),
}

impl Answering {
    /// Appends to `output` what is due.
    pub(crate) fn advance(&mut self, now: MonotonicTime, output: &mut Output) -> Next {
        match self {
            Self::Streamed(streamed) => streamed.advance(now, output),
            Self::Whole(whole) => whole.advance(now, output),
            Self::Script(script) => script.advance(now, output),
        }
    }
}
