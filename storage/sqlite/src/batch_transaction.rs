//! The transaction that stores and counts batches. Statements are local calls here, so rows go one by one where that is
//! simpler. Nobody else writes meanwhile, so nothing needs locks or an order.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::{BatchId, LlmName, MetricBatch};
use sqlx::{Row, SqliteConnection};
use storage::Hour;
use storage_sql::{
    SqlError,
    columns::{RowKeyColumns, known_metric, stored_identity},
    statistics_rows::{RowKey, RowState},
    write_transaction::{
        AdmissionRules, EnteredIntoLedger, LedgerCandidate, Publication, StoredIdentity, WriteTransaction,
    },
};
use uuid::Uuid;

use crate::{
    batch_rows::{self, id_list},
    retention::retained_from,
    statistics_rows,
    time_columns::to_column,
};

/// A connection with an open write transaction, and the time it takes place.
pub(crate) struct BatchTransaction<'c> {
    pub(crate) connection: &'c mut SqliteConnection,
    pub(crate) now: DateTime<Utc>,
}

#[async_trait]
impl WriteTransaction for BatchTransaction<'_> {
    async fn admission_rules(&mut self) -> Result<AdmissionRules, SqlError> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT title, unit FROM metrics ORDER BY id")
            .fetch_all(&mut *self.connection)
            .await?;
        let metrics = rows.iter().map(|(title, unit)| known_metric(title, unit));
        Ok(AdmissionRules {
            metrics: metrics.collect::<Result<_, _>>()?,
            retained_from: retained_from(self.connection).await?,
        })
    }

    async fn register_llms(&mut self, names: &[&LlmName]) -> Result<(), SqlError> {
        for name in names {
            sqlx::query(
                "INSERT INTO llms (name, creator, created_at, updated_at)
                 SELECT $1, 'unknown', $2, $2 WHERE NOT EXISTS (SELECT 1 FROM llms WHERE name = $1)",
            )
            .bind(name.as_str())
            .bind(to_column(self.now))
            .execute(&mut *self.connection)
            .await?;
        }
        Ok(())
    }

    async fn stored(&mut self, ids: &[BatchId]) -> Result<HashMap<BatchId, StoredIdentity>, SqlError> {
        let rows = sqlx::query(
            "SELECT id, llm_id, metric_id, source, checksum FROM batches
             WHERE id IN (SELECT unhex(value) FROM json_each($1))",
        )
        .bind(id_list(ids))
        .fetch_all(&mut *self.connection)
        .await?;
        rows.iter()
            .map(|row| {
                let identity = stored_identity(
                    row.try_get("llm_id")?,
                    row.try_get("metric_id")?,
                    row.try_get("source")?,
                    row.try_get("checksum")?,
                )?;
                Ok((row.try_get::<Uuid, _>("id")?.into(), identity))
            })
            .collect()
    }

    async fn insert(
        &mut self,
        batches: &[&MetricBatch],
        publication: Publication,
    ) -> Result<HashSet<BatchId>, SqlError> {
        let mut stored = HashSet::with_capacity(batches.len());
        for batch in batches {
            if batch_rows::insert(&mut *self.connection, batch, publication, self.now).await? {
                stored.insert(batch.id());
            }
        }
        Ok(stored)
    }

    async fn enter_ledger(&mut self, batches: &[LedgerCandidate]) -> Result<EnteredIntoLedger, SqlError> {
        let retained_from = retained_from(self.connection).await?;
        let kept: Vec<BatchId> = batches
            .iter()
            .filter(|batch| Hour::of(batch.timestamp) >= retained_from)
            .map(|batch| batch.id)
            .collect();
        let entered: Vec<Uuid> = sqlx::query_scalar(
            "INSERT INTO ledger (batch_id, counted_at) SELECT unhex(value), $2 FROM json_each($1) WHERE true
             ON CONFLICT (batch_id) DO NOTHING
             RETURNING batch_id",
        )
        .bind(id_list(&kept))
        .bind(to_column(self.now))
        .fetch_all(&mut *self.connection)
        .await?;
        Ok(EnteredIntoLedger {
            new: entered.into_iter().map(BatchId::from).collect(),
            retained_from,
        })
    }

    async fn counted(&mut self, ids: &[BatchId]) -> Result<HashSet<BatchId>, SqlError> {
        let counted: Vec<Uuid> = sqlx::query_scalar(
            "SELECT batch_id FROM ledger WHERE batch_id IN (SELECT unhex(value) FROM json_each($1))",
        )
        .bind(id_list(ids))
        .fetch_all(&mut *self.connection)
        .await?;
        Ok(counted.into_iter().map(BatchId::from).collect())
    }

    async fn lock_statistics(&mut self, rows: &[RowKey]) -> Result<Vec<(RowKey, Vec<u8>)>, SqlError> {
        let mut states = Vec::with_capacity(rows.len());
        for row in rows {
            let key = RowKeyColumns::from(*row);
            let state: Option<Vec<u8>> = sqlx::query_scalar(
                "SELECT state FROM statistics
                 WHERE llm_id = $1 AND metric_id = $2 AND source = $3 AND period = $4",
            )
            .bind(key.llm_id)
            .bind(key.metric_id)
            .bind(key.source)
            .bind(key.period)
            .fetch_optional(&mut *self.connection)
            .await?;
            states.extend(state.map(|state| (*row, state)));
        }
        Ok(states)
    }

    async fn write_statistics(&mut self, rows: &[RowState]) -> Result<(), SqlError> {
        sqlx::query("UPDATE statistics_revision SET revision = revision + 1")
            .execute(&mut *self.connection)
            .await?;
        statistics_rows::write(self.connection, rows, self.now).await
    }
}
