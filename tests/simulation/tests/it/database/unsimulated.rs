//! Ports that nothing in the simulation may use: a call is a mistake of the simulation, and ends the run.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::{BatchId, Llm, LlmId, Metric, MetricId, NewLlm, NewMetric, RegistrySeed};
use storage::{
    ApiKeyId, ApiKeyRecord, ApiKeys, BatchArchive, BatchCursor, BatchFilter, BatchPage, DatabaseInfo,
    DeadLetterEntry, DeadLetterLog, DeadLetterNote, LlmChange, Maintenance, MetricChange, Registry, Result,
    SimulationProgress, StoredBatch,
};

use super::SimulatedDatabase;

pub(super) fn port<T>() -> T {
    panic!("this port is not part of the simulation")
}

#[async_trait]
impl Registry for SimulatedDatabase {
    async fn seed(&self, _seed: &RegistrySeed, _at: DateTime<Utc>) -> Result<()> {
        port()
    }

    async fn llms(&self) -> Result<Vec<Llm>> {
        port()
    }

    async fn create_llm(&self, _new: &NewLlm, _at: DateTime<Utc>) -> Result<Llm> {
        port()
    }

    async fn update_llm(&self, _id: LlmId, _change: &LlmChange, _at: DateTime<Utc>) -> Result<Llm> {
        port()
    }

    async fn archive_llm(&self, _id: LlmId, _at: DateTime<Utc>) -> Result<()> {
        port()
    }

    async fn metrics(&self) -> Result<Vec<Metric>> {
        port()
    }

    async fn create_metric(&self, _new: &NewMetric, _at: DateTime<Utc>) -> Result<Metric> {
        port()
    }

    async fn update_metric(
        &self,
        _id: MetricId,
        _change: &MetricChange,
        _at: DateTime<Utc>,
    ) -> Result<Metric> {
        port()
    }

    async fn archive_metric(&self, _id: MetricId, _at: DateTime<Utc>) -> Result<()> {
        port()
    }
}

#[async_trait]
impl BatchArchive for SimulatedDatabase {
    async fn batch(&self, _id: BatchId) -> Result<Option<StoredBatch>> {
        port()
    }

    async fn batches(
        &self,
        _filter: &BatchFilter,
        _after: Option<BatchCursor>,
        _limit: u32,
    ) -> Result<BatchPage> {
        port()
    }
}

#[async_trait]
impl ApiKeys for SimulatedDatabase {
    async fn add_api_key(&self, _key: &ApiKeyRecord) -> Result<()> {
        port()
    }

    async fn api_keys(&self) -> Result<Vec<ApiKeyRecord>> {
        port()
    }

    async fn revoke_api_key(&self, _id: &ApiKeyId, _at: DateTime<Utc>) -> Result<()> {
        port()
    }
}

#[async_trait]
impl SimulationProgress for SimulatedDatabase {
    async fn seed_or_store(&self, _drawn: u64) -> Result<u64> {
        port()
    }

    async fn take_tick(&self, _seed: u64) -> Result<u64> {
        port()
    }
}

#[async_trait]
impl Maintenance for SimulatedDatabase {
    async fn migrate(&self) -> Result<u32> {
        port()
    }

    async fn database_info(&self) -> Result<DatabaseInfo> {
        port()
    }

    async fn ping(&self) -> Result<()> {
        port()
    }

    async fn close(&self) {
        port::<()>();
    }
}

#[async_trait]
impl DeadLetterLog for SimulatedDatabase {
    async fn note_dead_letters(&self, _notes: &[DeadLetterNote]) -> Result<Vec<i64>> {
        port()
    }

    async fn dead_letters_done(&self, _entries: &[i64], _at: DateTime<Utc>) -> Result<()> {
        port()
    }

    async fn dead_letter_log(&self, _limit: u32) -> Result<Vec<DeadLetterEntry>> {
        port()
    }
}
