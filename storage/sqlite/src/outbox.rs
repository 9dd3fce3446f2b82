use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use chrono::TimeDelta;
use shared_types::{BatchId, MetricBatch};
use sqlx::Row;
use storage::{Outbox, OutboxDepth, Recorded, Result};
use storage_sql::{SqlError, admission, columns::readable};
use uuid::Uuid;

use crate::{
    SqliteStorage,
    batch_rows::{batch_columns, id_list, stored_batch},
    batch_transaction::BatchTransaction,
    time_columns::{from_optional_column, to_column},
};

#[async_trait]
impl Outbox for SqliteStorage {
    async fn record(&self, batches: &[MetricBatch]) -> Result<Vec<Recorded>> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        self.run("record batches", async || {
            let mut transaction = self.begin().await?;
            let mut batch_transaction = BatchTransaction {
                connection: &mut transaction,
                now: self.now(),
            };
            let recorded = admission::record(&mut batch_transaction, batches, HashSet::new()).await?;
            transaction.commit().await?;
            Ok(recorded)
        })
        .await
    }

    async fn claim_unpublished(
        &self,
        limit: u32,
        grace: Duration,
        lease: Duration,
    ) -> Result<Vec<MetricBatch>> {
        self.run("claim unpublished batches", || self.claim(limit, grace, lease))
            .await
    }

    async fn mark_published(&self, ids: &[BatchId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.run("mark batches as published", async || {
            sqlx::query("DELETE FROM outbox WHERE batch_id IN (SELECT unhex(value) FROM json_each($1))")
                .bind(id_list(ids))
                .execute(&self.writer)
                .await?;
            Ok(())
        })
        .await
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth> {
        self.run("count unpublished batches", async || {
            let (unpublished, oldest): (i64, Option<i64>) =
                sqlx::query_as("SELECT count(*), min(recorded_at) FROM outbox")
                    .fetch_one(&self.readers)
                    .await?;
            let age = from_optional_column(oldest)?.map(|oldest| self.now() - oldest);
            Ok(OutboxDepth {
                unpublished: unpublished.cast_unsigned(),
                // A clock that was set back makes rows from the future: their age is nothing.
                oldest: age.map(|age| age.to_std().unwrap_or_default()),
            })
        })
        .await
    }
}

impl SqliteStorage {
    async fn claim(
        &self,
        limit: u32,
        grace: Duration,
        lease: Duration,
    ) -> std::result::Result<Vec<MetricBatch>, SqlError> {
        let now = self.now();
        let ago = |duration| {
            let age = TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
            now.checked_sub_signed(age).map_or(i64::MIN, to_column)
        };
        let mut transaction = self.begin().await?;
        let rows = sqlx::query(concat!(
            "SELECT ",
            batch_columns!(),
            "
             FROM (
                 SELECT batch_id, recorded_at AS queued_at FROM outbox
                 WHERE recorded_at <= $2 AND (claimed_at IS NULL OR claimed_at <= $3)
                 ORDER BY recorded_at, batch_id
                 LIMIT $1
             ) due
             JOIN batches b ON b.id = due.batch_id
             JOIN llms l ON l.id = b.llm_id JOIN metrics m ON m.id = b.metric_id
             ORDER BY due.queued_at, due.batch_id"
        ))
        .bind(i64::from(limit))
        .bind(ago(grace))
        .bind(ago(lease))
        .fetch_all(&mut *transaction)
        .await?;
        let claimed = rows
            .iter()
            .map(|row| Ok((row.try_get("id")?, stored_batch(row))))
            .collect::<std::result::Result<Vec<(Uuid, _)>, SqlError>>()?;
        let ids: Vec<BatchId> = claimed.iter().map(|(id, _)| BatchId::from(*id)).collect();
        sqlx::query(
            "UPDATE outbox SET claimed_at = $2 WHERE batch_id IN (SELECT unhex(value) FROM json_each($1))",
        )
        .bind(id_list(&ids))
        .bind(to_column(now))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(readable(claimed))
    }
}
