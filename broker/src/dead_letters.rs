use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::publisher::BoxError;

/// A message that was rejected, with what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Identifies it to the operator: the message's id where it has one, else a hash of its body.
    pub id: String,
    /// Why it was rejected.
    pub reason: String,
    /// When it was rejected; `None` where nobody recorded it.
    pub rejected_at: Option<DateTime<Utc>>,
    /// The routing key that it was published with first.
    pub routing_key: String,
    /// The body, unchanged.
    pub body: Bytes,
}

/// The dead letters that an operator selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterSelection {
    /// Every dead letter.
    All,
    /// One dead letter for each of these ids: the oldest with that id. Dead letters may share an id, because a message
    /// may be rejected twice, and because a body without an id is identified by its hash.
    Ids(Vec<String>),
}

impl DeadLetterSelection {
    /// The selection as it is before the first dead letter is looked at.
    #[must_use]
    pub fn unmatched(&self) -> UnmatchedSelection<'_> {
        UnmatchedSelection(match self {
            Self::All => None,
            Self::Ids(ids) => {
                let mut remaining: HashMap<&str, usize> = HashMap::with_capacity(ids.len());
                for id in ids {
                    *remaining.entry(id).or_default() += 1;
                }
                Some(remaining)
            }
        })
    }
}

/// The part of a [`DeadLetterSelection`] that no dead letter has matched yet. `All` always matches.
#[derive(Debug, Clone)]
pub struct UnmatchedSelection<'s>(Option<HashMap<&'s str, usize>>);

impl UnmatchedSelection<'_> {
    /// Whether the selection includes the next dead letter, which has this id. If so, the id is used up.
    pub fn matches(&mut self, id: &str) -> bool {
        let Some(remaining) = &mut self.0 else { return true };
        match remaining.get_mut(id) {
            None => false,
            Some(1) => remaining.remove(id).is_some(),
            Some(count) => {
                *count -= 1;
                true
            }
        }
    }

    /// Whether no further dead letter can match.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.0.as_ref().is_some_and(HashMap::is_empty)
    }
}

/// An operation on the dead letters failed. No message was lost: each is still in one of the broker's queues.
#[derive(Debug, thiserror::Error)]
#[error("{operation} dead letters failed")]
pub struct DeadLetterError {
    /// `list`, `replay` or `discard`.
    pub operation: &'static str,
    /// What the broker's client reported.
    #[source]
    pub source: BoxError,
}

/// What an operator does with rejected messages.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Up to `limit` dead letters, oldest first. They stay in their queue.
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, DeadLetterError>;

    /// Publishes the selected dead letters to the queue of batches again, unchanged, and returns their ids. A dead letter
    /// is removed only after the broker has confirmed its copy. A crash in between may leave both; the ledger then counts
    /// the batch once. The cost grows with the number of dead letters up to the last selected one.
    async fn replay(&self, selection: &DeadLetterSelection) -> Result<Vec<String>, DeadLetterError>;

    /// Deletes the selected dead letters and returns their ids.
    async fn discard(&self, selection: &DeadLetterSelection) -> Result<Vec<String>, DeadLetterError>;
}
