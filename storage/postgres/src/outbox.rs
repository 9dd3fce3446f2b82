use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use shared_types::{BatchId, MetricBatch};
use sqlx::Row;
use storage::{Outbox, OutboxDepth, Recorded, Result};
use storage_sql::{SqlError, admission, columns::readable, write_transaction::Publication};

use crate::{
    PostgresStorage,
    batch_rows::{self, Units, batch_columns, stored_batch, uuids},
    batch_transaction::BatchTransaction,
};

#[async_trait]
impl Outbox for PostgresStorage {
    async fn record(&self, batches: &[MetricBatch]) -> Result<Vec<Recorded>> {
        self.retrying("record batches", || self.record_once(batches))
            .await
    }

    async fn claim_unpublished(
        &self,
        limit: u32,
        grace: Duration,
        lease: Duration,
    ) -> Result<Vec<MetricBatch>> {
        self.retrying("claim unpublished batches", || {
            self.claim_once(limit, grace, lease)
        })
        .await
    }

    async fn mark_published(&self, ids: &[BatchId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.retrying("mark batches as published", async || {
            // In the order of the ids, so that two callers with the same ids do not wait for each other in a circle.
            sqlx::query(
                "DELETE FROM outbox WHERE batch_id IN (
                     SELECT batch_id FROM outbox WHERE batch_id = ANY($1) ORDER BY batch_id FOR UPDATE
                 )",
            )
            .bind(uuids(ids))
            .execute(&self.pool)
            .await?;
            Ok(())
        })
        .await
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth> {
        self.retrying("count unpublished batches", async || {
            let (unpublished, oldest): (i64, Option<f64>) = sqlx::query_as(
                "SELECT count(*), extract(epoch FROM now() - min(recorded_at))::float8 FROM outbox",
            )
            .fetch_one(&self.pool)
            .await?;
            Ok(OutboxDepth {
                unpublished: unpublished.cast_unsigned(),
                oldest: oldest.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            })
        })
        .await
    }
}

impl PostgresStorage {
    /// First the way of almost every call: all LLMs are known, all batches new, one statement. Only what that leaves
    /// over is looked at closely.
    async fn record_once(&self, batches: &[MetricBatch]) -> std::result::Result<Vec<Recorded>, SqlError> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.acquire().await?;
        let distinct: BTreeMap<BatchId, &MetricBatch> =
            batches.iter().rev().map(|batch| (batch.id(), batch)).collect();
        let distinct: Vec<&MetricBatch> = distinct.into_values().collect();
        let mut stored = HashSet::with_capacity(distinct.len());
        for piece in batch_rows::statements(&distinct) {
            stored.extend(
                batch_rows::insert(&mut connection, piece, Units::Compared, Publication::Queued).await?,
            );
        }
        if stored.len() == batches.len() {
            return Ok(vec![Recorded::Stored; batches.len()]);
        }
        let mut transaction = sqlx::Connection::begin(&mut *connection).await?;
        let recorded = admission::record(&mut BatchTransaction(&mut transaction), batches, stored).await?;
        transaction.commit().await?;
        Ok(recorded)
    }

    async fn claim_once(
        &self,
        limit: u32,
        grace: Duration,
        lease: Duration,
    ) -> std::result::Result<Vec<MetricBatch>, SqlError> {
        let rows = sqlx::query(concat!(
            "WITH due AS (
                 SELECT batch_id FROM outbox
                 WHERE recorded_at <= now() - make_interval(secs => $2)
                   AND (claimed_at IS NULL OR claimed_at <= now() - make_interval(secs => $3))
                 ORDER BY recorded_at, batch_id
                 LIMIT $1
                 FOR UPDATE SKIP LOCKED
             ), claimed AS (
                 UPDATE outbox o SET claimed_at = now() FROM due WHERE o.batch_id = due.batch_id
                 RETURNING o.batch_id, o.recorded_at AS queued_at
             )
             SELECT ",
            batch_columns!(),
            "
             FROM claimed c JOIN batches b ON b.id = c.batch_id
             JOIN llms l ON l.id = b.llm_id JOIN metrics m ON m.id = b.metric_id
             ORDER BY c.queued_at, c.batch_id"
        ))
        .bind(i64::from(limit))
        .bind(grace.as_secs_f64())
        .bind(lease.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        let claimed = rows
            .iter()
            .map(|row| Ok((row.try_get("id")?, stored_batch(row))))
            .collect::<std::result::Result<Vec<_>, SqlError>>()?;
        Ok(readable(claimed))
    }
}
