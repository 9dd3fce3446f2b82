use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::publisher::BoxError;

/// A message that was rejected, with what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// By which it is shown, replayed and discarded: the message's id where it has one, else a hash of its body.
    pub id: String,
    /// Why it was rejected.
    pub reason: String,
    /// When it was rejected, where that is known.
    pub rejected_at: Option<DateTime<Utc>>,
    /// Where it had been published to.
    pub routing_key: String,
    /// The body, unchanged.
    pub body: Bytes,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// Those with these ids.
    Ids(Vec<String>),
}

impl Selection {
    /// Whether the letter is meant.
    #[must_use]
    pub fn includes(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::Ids(ids) => ids.iter().any(|wanted| wanted == id),
        }
    }
}

/// The dead letters could not be reached; nothing was changed that is not in the broker's queues.
#[derive(Debug, thiserror::Error)]
#[error("{operation} dead letters failed")]
pub struct DeadLetterError {
    /// `list`, `replay` or `discard`.
    pub operation: &'static str,
    /// The client's error.
    #[source]
    pub source: BoxError,
}

/// The operator's tools for messages that were rejected.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Up to `limit` letters, oldest first. They stay where they are.
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, DeadLetterError>;

    /// Sends the selected letters to the queue of batches again, unchanged; gives their ids. A letter is removed
    /// only after the broker has confirmed its copy: a crash in between may leave both, and the ledger counts once.
    async fn replay(&self, selection: &Selection) -> Result<Vec<String>, DeadLetterError>;

    /// Removes the selected letters for good; gives their ids.
    async fn discard(&self, selection: &Selection) -> Result<Vec<String>, DeadLetterError>;
}
