//! What the transactions that store and count batches ask of a backend.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::{BatchId, Checksum, LlmName, MetricBatch, MetricTitle, Unit};
use storage::{Hour, StatisticsKey};

use crate::{
    SqlError,
    statistics_rows::{RowKey, RowState},
};

/// A metric of the registry, archived or not, as far as a batch must agree with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMetric {
    /// Its title.
    pub title: MetricTitle,
    /// The unit of its values.
    pub unit: Unit,
}

/// What decides about batches that are not stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionRules {
    /// Every metric, archived ones included, in the order of their ids.
    pub metrics: Vec<KnownMetric>,
    /// The first hour whose batches are kept.
    pub retained_from: Hour,
}

/// A batch on its way into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerCandidate {
    /// Its id.
    pub id: BatchId,
    /// Its timestamp.
    pub timestamp: DateTime<Utc>,
}

/// What [`WriteTransaction::enter_ledger`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnteredIntoLedger {
    /// The ids that entered.
    pub new: HashSet<BatchId>,
    /// The first hour whose batches are kept.
    pub retained_from: Hour,
}

/// What decides about a batch that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredIdentity {
    /// Over the stored content.
    pub checksum: Checksum,
    /// What it counts for.
    pub key: StatisticsKey,
}

/// Whether a newly stored batch gets an outbox row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// It is to be published.
    Queued,
    /// It came from the broker.
    NotNeeded,
}

/// One open transaction of a backend, as [`record`](crate::admission::record) and
/// [`apply`](crate::counting::apply) need it.
#[async_trait]
pub trait WriteTransaction: Send {
    /// What decides about new batches. Called after [`stored`](Self::stored).
    async fn admission_rules(&mut self) -> Result<AdmissionRules, SqlError>;

    /// Registers those LLMs that are missing, in the order given, with creator `unknown`.
    async fn register_llms(&mut self, names: &[&LlmName]) -> Result<(), SqlError>;

    /// Those of the ids that are stored. Called first: what is kept does not change any more before the
    /// transaction ends.
    async fn stored(&mut self, ids: &[BatchId]) -> Result<HashMap<BatchId, StoredIdentity>, SqlError>;

    /// Stores those of the batches whose id is new, in the order given; gives the ids that were stored.
    async fn insert(
        &mut self,
        batches: &[&MetricBatch],
        publication: Publication,
    ) -> Result<HashSet<BatchId>, SqlError>;

    /// Enters the batches that are new to the ledger and of hours that are kept, in the order given.
    async fn enter_ledger(&mut self, batches: &[LedgerCandidate]) -> Result<EnteredIntoLedger, SqlError>;

    /// Those of the ids that are in the ledger.
    async fn counted(&mut self, ids: &[BatchId]) -> Result<HashSet<BatchId>, SqlError>;

    /// Makes sure that nobody else changes these rows before the transaction ends, in the order given, and gives the
    /// states of those that exist. An empty state may stand for a row that does not.
    async fn lock_statistics(&mut self, rows: &[RowKey]) -> Result<Vec<(RowKey, Vec<u8>)>, SqlError>;

    /// Writes rows that were locked.
    async fn write_statistics(&mut self, rows: &[RowState]) -> Result<(), SqlError>;
}
