//! Stored batches that are in the ledger, as audits and rebuilds read them.

use chrono::{DateTime, Utc};
use shared_types::BatchId;
use storage::StatisticsKey;

/// A batch's position in the order "oldest first": by timestamp, then id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPosition {
    /// The batch's timestamp.
    pub timestamp: DateTime<Utc>,
    /// Its id.
    pub id: BatchId,
}

/// A stored batch that is in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct CountedBatch {
    /// Its position in the order.
    pub position: BatchPosition,
    /// Which statistics it counts for.
    pub key: StatisticsKey,
    /// Its values.
    pub values: Vec<f64>,
}
