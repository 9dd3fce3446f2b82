use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::publisher::BoxError;

/// Work that one process (the coordinator) shares out to others (workers) that it does not know, and the conversation
/// about it.
///
/// At most once: the broker gives a share to one worker after another until one *keeps* it ([`TakenShare::keep`]); from then on
/// nobody else gets it. Nothing of it survives a restart of the broker, and no lost link is repaired: whoever is in the
/// middle of a conversation then cannot know what the other side heard, and both take the share for lost.
#[async_trait]
pub trait Shares: Send + Sync + fmt::Debug {
    /// Offers one share for each of `offers`. What nobody takes within `valid_for` is withdrawn. `run_id` is shown to who looks at
    /// the broker's messages.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses.
    async fn offer(
        &self,
        run_id: &str,
        offers: Vec<Bytes>,
        valid_for: Duration,
    ) -> Result<Box<dyn OfferedShares>, ShareError>;

    /// Waits for a share, for as long as it takes, and takes it.
    ///
    /// # Errors
    /// The broker cannot be reached, refuses, or the link to it is lost.
    async fn take(&self) -> Result<Box<dyn TakenShare>, ShareError>;
}

/// The coordinator's side of the conversation. Dropping it ends it: workers that say something then learn that nobody listens.
#[async_trait]
pub trait OfferedShares: Send + Sync {
    /// Waits for what a worker says. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The link is lost.
    async fn next(&mut self) -> Result<FromWorker, ShareError>;

    /// Says something to a worker that has spoken before. When this returns the broker has it for that worker.
    ///
    /// # Errors
    /// [`ShareError::Gone`]: the worker is not there any more. Otherwise the link is lost.
    async fn send(&self, to: &WorkerAddress, body: Bytes) -> Result<(), ShareError>;

    /// Ends the conversation, and waits for a bounded time until the broker knows.
    async fn close(self: Box<Self>);
}

/// A worker's side of the conversation. Dropping it ends it; a share that was not kept goes to another worker.
#[async_trait]
pub trait TakenShare: Send + Sync {
    /// What was offered.
    fn offer(&self) -> &Bytes;

    /// Keeps the share: no other worker gets it from now on. A second time does nothing.
    ///
    /// # Errors
    /// The link is lost: the share may go to another worker.
    async fn keep(&mut self) -> Result<(), ShareError>;

    /// Waits for what the coordinator says. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The link is lost.
    async fn next(&mut self) -> Result<Bytes, ShareError>;

    /// Says something to the coordinator. When this returns the broker has it for the coordinator.
    ///
    /// # Errors
    /// [`ShareError::Gone`]: the coordinator is not there any more. Otherwise the link is lost.
    async fn send(&self, body: Bytes) -> Result<(), ShareError>;

    /// Ends the conversation, and waits for a bounded time until the broker knows.
    async fn close(self: Box<Self>);
}

/// Something that a worker said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromWorker {
    /// Where it hears an answer.
    pub from: WorkerAddress,
    /// What it said.
    pub body: Bytes,
}

/// Where a worker is reached while it has a share; another one for every share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerAddress(pub String);

/// Why nothing is said or heard.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The other side has ended the conversation, or its process has ended.
    #[error("the other side is not there any more")]
    Gone,
    /// The broker cannot be reached, or the link to it was lost.
    #[error("the broker is unavailable")]
    Unavailable {
        /// Why.
        #[source]
        source: BoxError,
    },
}
