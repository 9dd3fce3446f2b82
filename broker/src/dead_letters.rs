use std::collections::HashMap;

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
    /// For each of these ids one letter, the oldest of those that have it. Letters may share an id: a message may be
    /// rejected twice, and a body without an id is known by its hash.
    Ids(Vec<String>),
}

impl Selection {
    /// What is to be looked for, letter by letter.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted(match self {
            Self::All => None,
            Self::Ids(ids) => {
                let mut left: HashMap<&str, usize> = HashMap::with_capacity(ids.len());
                for id in ids {
                    *left.entry(id).or_default() += 1;
                }
                Some(left)
            }
        })
    }
}

/// What has not been met yet of a [`Selection`]; of `All` there is no end.
#[derive(Debug, Clone)]
pub struct Wanted<'s>(Option<HashMap<&'s str, usize>>);

impl Wanted<'_> {
    /// Whether the next letter, which has this id, is meant. It counts as met.
    pub fn takes(&mut self, id: &str) -> bool {
        let Some(left) = &mut self.0 else { return true };
        match left.get_mut(id) {
            None => false,
            Some(1) => left.remove(id).is_some(),
            Some(more) => {
                *more -= 1;
                true
            }
        }
    }

    /// Whether no further letter is meant.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.0.as_ref().is_some_and(HashMap::is_empty)
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
    /// Costs as much as there are letters up to the last one that is selected.
    async fn replay(&self, selection: &Selection) -> Result<Vec<String>, DeadLetterError>;

    /// Removes the selected letters for good; gives their ids.
    async fn discard(&self, selection: &Selection) -> Result<Vec<String>, DeadLetterError>;
}
