use std::time::Duration;

use async_trait::async_trait;
use shared_types::{BatchId, MetricBatch};

use crate::{Refusal, Result};

/// What became of one batch given to [`Outbox::record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// Stored now, with an outbox row: it is to be published.
    Stored,
    /// The same batch was stored before (a retry): nothing to do, its outbox row exists or is done with.
    AlreadyStored,
    /// Not stored: it can never be, as it is.
    Refused(Refusal),
}

/// How much is waiting to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxDepth {
    /// Batches that are stored and not marked as published.
    pub unpublished: u64,
    /// The age of the oldest of them.
    pub oldest: Option<Duration>,
}

/// The producer's side: batches are stored together with the intent to publish them.
///
/// The ages and leases here are measured by the database's own clock (SQLite: the clock given to it), so that
/// producers whose clocks disagree still share one outbox.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Stores each of the batches together with a small outbox row that carries no payload; gives one outcome per
    /// batch, in the order given. Unknown LLMs are registered (creator `unknown`).
    ///
    /// A batch that is in `batches` twice is stored once. A large call may take several transactions, so one that
    /// failed may have stored some of the batches: they are `AlreadyStored` when the call is repeated, and their
    /// outbox rows see to it that they are published.
    async fn record(&self, batches: &[MetricBatch]) -> Result<Vec<Recorded>>;

    /// Claims up to `limit` batches, oldest first, that were recorded at least `grace` ago, are not published and
    /// not claimed by anyone within the last `lease`. Concurrent callers get different batches and never wait for
    /// each other (`FOR UPDATE SKIP LOCKED`). A claim that is not followed by `mark_published` lapses.
    async fn claim_unpublished(
        &self,
        limit: u32,
        grace: Duration,
        lease: Duration,
    ) -> Result<Vec<MetricBatch>>;

    /// Deletes the outbox rows of these batches: the broker has confirmed them. Unknown ids are ignored.
    async fn mark_published(&self, ids: &[BatchId]) -> Result<()>;

    /// How much is waiting.
    async fn outbox_depth(&self) -> Result<OutboxDepth>;
}
