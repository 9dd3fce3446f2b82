use async_trait::async_trait;
use shared_types::{MetricBatch, Source};
use storage::{
    Applied, HistoryFilter, Hour, Projection, RebuildReport, Result, Revision, StatisticsChange,
    StatisticsRow,
};
use storage_sql::{columns::FIRST_HOUR, counting};

use crate::{
    PostgresStorage, advisory_locks::COUNTING, batch_transaction::BatchTransaction, statistics_rows,
};

#[async_trait]
impl Projection for PostgresStorage {
    async fn apply(&self, batches: &[MetricBatch]) -> Result<Vec<Applied>> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        self.retrying("apply batches", async || {
            let mut transaction = self.begin().await?;
            let applied = counting::apply(&mut BatchTransaction(&mut transaction), batches).await?;
            #[cfg(feature = "failpoints")]
            fail::fail_point!("projection::before_commit", |_| std::process::abort());
            transaction.commit().await?;
            Ok(applied)
        })
        .await
    }

    async fn statistics_since(&self, since: Option<Revision>, horizon: Hour) -> Result<StatisticsChange> {
        self.retrying("read changed statistics", || self.changes(since, horizon))
            .await
    }

    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<StatisticsRow>> {
        self.retrying("read history", async || {
            sqlx::query(
                "SELECT llm_id, metric_id, source, period, state, updated_at FROM statistics
                 WHERE llm_id = $1 AND metric_id = $2 AND ($3::text IS NULL OR source = $3)
                   AND period >= $4 AND period < $5
                 ORDER BY period, array_position(ARRAY['simulated', 'measured', 'imported'], source)",
            )
            .bind(filter.llm.0)
            .bind(filter.metric.0)
            .bind(filter.source.map(Source::as_str))
            .bind(filter.from.0.max(FIRST_HOUR.0))
            .bind(filter.until.0)
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(statistics_rows::decode)
            .collect()
        })
        .await
    }

    async fn rebuild(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<RebuildReport> {
        self.retrying_without_deadline("rebuild statistics", || self.rebuild_once(progress))
            .await
    }

    async fn is_rebuilding(&self) -> Result<bool> {
        self.retrying("look for a rebuild", async || {
            // Outside of a transaction the lock is released at once.
            let may_count: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock_shared($1)")
                .bind(COUNTING)
                .fetch_one(&self.pool)
                .await?;
            Ok(!may_count)
        })
        .await
    }

    async fn counted_batches(&self) -> Result<u64> {
        self.retrying("count the ledger", async || {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger")
                .fetch_one(&self.pool)
                .await?;
            Ok(count.cast_unsigned())
        })
        .await
    }
}
