use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::Result;

/// What an operator does with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterAction {
    /// Sent to the queue of batches again.
    Replay,
    /// Removed for good.
    Discard,
}

impl DeadLetterAction {
    /// The name in the database and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Discard => "discard",
        }
    }
}

impl std::str::FromStr for DeadLetterAction {
    type Err = shared_types::Invalid;

    fn from_str(raw: &str) -> std::result::Result<Self, Self::Err> {
        [Self::Replay, Self::Discard]
            .into_iter()
            .find(|action| action.as_str() == raw)
            .ok_or_else(|| shared_types::Invalid::new("action", raw, "replay or discard"))
    }
}

/// A dead letter that is about to be acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterNote {
    /// The letter's id, as `dead-letters list` shows it.
    pub letter_id: String,
    /// What is about to be done with it.
    pub action: DeadLetterAction,
    /// Why it had been rejected.
    pub reason: String,
    /// Its body, or the beginning of a long one: what is discarded can still be looked at.
    pub body: Vec<u8>,
    /// The whole body's length in bytes.
    pub body_bytes: u64,
    /// Who does it: the operating system's user and host.
    pub operator: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterEntry {
    /// The entry's number.
    pub id: i64,
    /// What was about to be done.
    pub note: DeadLetterNote,
    /// When the broker had done it; `None` where that was never learned.
    pub done_at: Option<DateTime<Utc>>,
}

/// The audit trail of what operators did with dead letters. Entries are written before the deed, so that nothing
/// disappears without one.
#[async_trait]
pub trait DeadLetterLog: Send + Sync {
    /// Writes the notes, all or none; gives the entries' numbers, in order. A repetition writes them again. A NUL in
    /// a text, which not every database can hold, is replaced by U+FFFD.
    async fn note_dead_letters(&self, notes: &[DeadLetterNote]) -> Result<Vec<i64>>;

    /// Notes that the broker has done it. Unknown numbers and those that are done already are left alone.
    async fn dead_letters_done(&self, entries: &[i64], at: DateTime<Utc>) -> Result<()>;

    /// Up to `limit` entries, newest first.
    async fn dead_letter_log(&self, limit: u32) -> Result<Vec<DeadLetterEntry>>;
}
