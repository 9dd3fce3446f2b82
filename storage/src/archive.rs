use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::{BatchId, LlmName, MetricBatch, MetricTitle, Source};

use crate::Result;

/// A batch as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredBatch {
    /// The batch, its content checked against the stored checksum. Its unit is the registry's, whatever unit (or none)
    /// the producer stated.
    pub batch: MetricBatch,
    /// When it was stored, by the database's clock.
    pub recorded_at: DateTime<Utc>,
}

/// Which batches are asked for; `None` does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchFilter {
    /// Only this LLM's.
    pub llm: Option<LlmName>,
    /// Only this metric's.
    pub metric: Option<MetricTitle>,
    /// Only this source's.
    pub source: Option<Source>,
}

/// The position of a batch in the order "newest first": by timestamp, then id, both descending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchCursor {
    /// The timestamp of the last batch of the page before.
    pub timestamp: DateTime<Utc>,
    /// Its id.
    pub id: BatchId,
}

/// A page of batches, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchPage {
    /// The batches.
    pub batches: Vec<StoredBatch>,
    /// Where the next page starts; `None` on the last page.
    pub next: Option<BatchCursor>,
}

/// The stored batches, for people who look at them.
#[async_trait]
pub trait BatchArchive: Send + Sync {
    /// One batch.
    async fn batch(&self, id: BatchId) -> Result<Option<StoredBatch>>;

    /// A page of at most `limit` batches after `after`.
    async fn batches(
        &self,
        filter: &BatchFilter,
        after: Option<BatchCursor>,
        limit: u32,
    ) -> Result<BatchPage>;
}
