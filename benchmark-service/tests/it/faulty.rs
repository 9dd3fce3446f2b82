//! A storage that fails on demand.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::{BatchId, Llm, LlmId, Metric, MetricBatch, MetricId, NewLlm, NewMetric, RegistrySeed};
use storage::*;
use storage_sqlite::SqliteStorage;

/// The fault of the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The database is away.
    Away,
    /// The database accepts every query and never answers.
    Silent,
    /// The database refuses every transaction with a batch of this LLM.
    Refuses(&'static str),
    /// The database answers queries, and refuses every transaction that writes.
    RefusesWrites,
    /// The statistics are being rebuilt.
    Rebuilds,
    /// A transaction that writes never ends.
    Hangs,
    /// The statistics rows of this LLM do not decode.
    Garbles(LlmId),
}

/// A SQLite storage that fails on demand.
#[derive(Debug)]
pub(crate) struct FaultyStorage {
    inner: SqliteStorage,
    fault: Mutex<Option<Fault>>,
    pub(crate) hanging: AtomicBool,
    /// How many batches wait to be recorded by a silent database.
    pub(crate) waiting: AtomicUsize,
}

impl FaultyStorage {
    pub(crate) fn new(inner: SqliteStorage) -> Self {
        Self {
            inner,
            fault: Mutex::new(None),
            hanging: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }

    fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap().clone()
    }

    async fn reachable(&self) -> Result<&SqliteStorage> {
        match self.fault() {
            Some(Fault::Silent) => std::future::pending().await,
            Some(Fault::Away) => Err(StorageError::Unavailable {
                operation: "anything",
                source: "the test took the database away".into(),
            }),
            _ => Ok(&self.inner),
        }
    }
}

#[async_trait]
impl Projection for FaultyStorage {
    async fn apply(&self, batches: &[MetricBatch]) -> Result<Vec<Applied>> {
        let refused = match self.fault() {
            Some(Fault::Refuses(llm)) if batches.iter().any(|batch| batch.llm().as_str() == llm) => {
                "the test refuses this LLM"
            }
            Some(Fault::RefusesWrites) => "the test refuses to write",
            Some(Fault::Rebuilds) => return Err(StorageError::Rebuilding),
            Some(Fault::Hangs) => {
                self.hanging.store(true, Ordering::Relaxed);
                std::future::pending().await
            }
            _ => return self.reachable().await?.apply(batches).await,
        };
        Err(StorageError::Fault {
            operation: "apply batches",
            source: refused.into(),
        })
    }

    async fn statistics_since(&self, since: Option<Revision>, horizon: Hour) -> Result<StatisticsChange> {
        let mut change = self.reachable().await?.statistics_since(since, horizon).await?;
        if let Some(Fault::Garbles(llm)) = self.fault() {
            for row in change.rows.iter_mut().filter(|row| row.key.llm == llm) {
                row.state.pop();
            }
        }
        Ok(change)
    }

    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<StatisticsRow>> {
        self.reachable().await?.history(filter).await
    }

    async fn rebuild(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<RebuildReport> {
        self.reachable().await?.rebuild(progress).await
    }

    async fn is_rebuilding(&self) -> Result<bool> {
        Ok(self.fault() == Some(Fault::Rebuilds))
    }

    async fn counted_batches(&self) -> Result<u64> {
        self.reachable().await?.counted_batches().await
    }
}

#[async_trait]
impl Outbox for FaultyStorage {
    async fn record(&self, batches: &[MetricBatch]) -> Result<Vec<Recorded>> {
        if self.fault() == Some(Fault::Silent) {
            self.waiting.fetch_add(batches.len(), Ordering::Relaxed);
        }
        self.reachable().await?.record(batches).await
    }

    async fn claim_unpublished(
        &self,
        limit: u32,
        grace: Duration,
        lease: Duration,
    ) -> Result<Vec<MetricBatch>> {
        self.reachable()
            .await?
            .claim_unpublished(limit, grace, lease)
            .await
    }

    async fn mark_published(&self, ids: &[BatchId]) -> Result<()> {
        self.reachable().await?.mark_published(ids).await
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth> {
        self.reachable().await?.outbox_depth().await
    }
}

#[async_trait]
impl Reconciliation for FaultyStorage {
    async fn requeue_uncounted(&self, grace: Duration, limit: u32) -> Result<Requeued> {
        self.reachable().await?.requeue_uncounted(grace, limit).await
    }

    async fn audit(&self, from: Option<Hour>, batches: u64) -> Result<Audit> {
        self.reachable().await?.audit(from, batches).await
    }

    async fn prune(&self, keep: Duration, now: DateTime<Utc>, limit: u32) -> Result<Pruned> {
        self.reachable().await?.prune(keep, now, limit).await
    }
}

#[async_trait]
impl DeadLetterLog for FaultyStorage {
    async fn note_dead_letters(&self, notes: &[DeadLetterNote]) -> Result<Vec<i64>> {
        self.reachable().await?.note_dead_letters(notes).await
    }

    async fn dead_letters_done(&self, entries: &[i64], at: DateTime<Utc>) -> Result<()> {
        self.reachable().await?.dead_letters_done(entries, at).await
    }

    async fn dead_letter_log(&self, limit: u32) -> Result<Vec<DeadLetterEntry>> {
        self.reachable().await?.dead_letter_log(limit).await
    }
}

#[async_trait]
impl Registry for FaultyStorage {
    async fn seed(&self, seed: &RegistrySeed, at: DateTime<Utc>) -> Result<()> {
        self.reachable().await?.seed(seed, at).await
    }

    async fn llms(&self) -> Result<Vec<Llm>> {
        self.reachable().await?.llms().await
    }

    async fn create_llm(&self, new: &NewLlm, at: DateTime<Utc>) -> Result<Llm> {
        self.reachable().await?.create_llm(new, at).await
    }

    async fn update_llm(&self, id: LlmId, change: &LlmChange, at: DateTime<Utc>) -> Result<Llm> {
        self.reachable().await?.update_llm(id, change, at).await
    }

    async fn archive_llm(&self, id: LlmId, at: DateTime<Utc>) -> Result<()> {
        self.reachable().await?.archive_llm(id, at).await
    }

    async fn metrics(&self) -> Result<Vec<Metric>> {
        self.reachable().await?.metrics().await
    }

    async fn create_metric(&self, new: &NewMetric, at: DateTime<Utc>) -> Result<Metric> {
        self.reachable().await?.create_metric(new, at).await
    }

    async fn update_metric(&self, id: MetricId, change: &MetricChange, at: DateTime<Utc>) -> Result<Metric> {
        self.reachable().await?.update_metric(id, change, at).await
    }

    async fn archive_metric(&self, id: MetricId, at: DateTime<Utc>) -> Result<()> {
        self.reachable().await?.archive_metric(id, at).await
    }
}

#[async_trait]
impl BatchArchive for FaultyStorage {
    async fn batch(&self, id: BatchId) -> Result<Option<StoredBatch>> {
        self.reachable().await?.batch(id).await
    }

    async fn batches(
        &self,
        filter: &BatchFilter,
        after: Option<BatchCursor>,
        limit: u32,
    ) -> Result<BatchPage> {
        self.reachable().await?.batches(filter, after, limit).await
    }
}

#[async_trait]
impl ApiKeys for FaultyStorage {
    async fn add_api_key(&self, key: &ApiKeyRecord) -> Result<()> {
        self.reachable().await?.add_api_key(key).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKeyRecord>> {
        self.reachable().await?.api_keys().await
    }

    async fn revoke_api_key(&self, id: &ApiKeyId, at: DateTime<Utc>) -> Result<()> {
        self.reachable().await?.revoke_api_key(id, at).await
    }
}

#[async_trait]
impl SimulationProgress for FaultyStorage {
    async fn seed_or_store(&self, drawn: u64) -> Result<u64> {
        self.reachable().await?.seed_or_store(drawn).await
    }

    async fn take_tick(&self, seed: u64) -> Result<u64> {
        self.reachable().await?.take_tick(seed).await
    }
}

#[async_trait]
impl Maintenance for FaultyStorage {
    async fn migrate(&self) -> Result<u32> {
        self.reachable().await?.migrate().await
    }

    async fn database_info(&self) -> Result<DatabaseInfo> {
        self.reachable().await?.database_info().await
    }

    async fn ping(&self) -> Result<()> {
        self.reachable().await?.ping().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
