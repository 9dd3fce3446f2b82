use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::BatchId;
use sqlx::{Row, SqliteConnection};
use storage::{
    columns::statistics_key,
    fold::RowState,
    rebuild::{CountedBatch, Place, RebuildTransaction, Swapped},
};
use uuid::Uuid;

use crate::{
    batch_rows::decode_values,
    fault::SqlError,
    time_columns::{from_column, to_column},
};

/// A connection with an open write transaction, and the time it takes place.
pub(crate) struct Rebuild<'c> {
    pub(crate) connection: &'c mut SqliteConnection,
    pub(crate) now: DateTime<Utc>,
}

#[async_trait]
impl RebuildTransaction for Rebuild<'_> {
    type Error = SqlError;

    async fn begin(&mut self) -> Result<u64, SqlError> {
        for statement in [
            "CREATE TEMPORARY TABLE IF NOT EXISTS rebuilt (
                 llm_id INTEGER, metric_id INTEGER, source TEXT, period INTEGER, state BLOB, n INTEGER,
                 PRIMARY KEY (llm_id, metric_id, source, period)
             )",
            "DELETE FROM rebuilt",
        ] {
            sqlx::query(statement).execute(&mut *self.connection).await?;
        }
        let counted: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger")
            .fetch_one(&mut *self.connection)
            .await?;
        Ok(counted.cast_unsigned())
    }

    async fn page(&mut self, after: Option<Place>, limit: u32) -> Result<Vec<CountedBatch>, SqlError> {
        let rows = sqlx::query(
            "SELECT b.id, b.llm_id, b.metric_id, b.source, b.batch_at, b.data_points
             FROM batches b JOIN ledger l ON l.batch_id = b.id
             WHERE (b.batch_at, b.id) > ($1, $2)
             ORDER BY b.batch_at, b.id
             LIMIT $3",
        )
        .bind(after.map_or(i64::MIN, |place| to_column(place.timestamp)))
        .bind(after.map_or(Uuid::nil(), |place| place.id.as_uuid()))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.connection)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(CountedBatch {
                    place: Place {
                        timestamp: from_column(row.try_get("batch_at")?)?,
                        id: BatchId::from(row.try_get::<Uuid, _>("id")?),
                    },
                    key: statistics_key(
                        row.try_get("llm_id")?,
                        row.try_get("metric_id")?,
                        row.try_get("source")?,
                    )?,
                    values: decode_values(row.try_get("data_points")?)?,
                })
            })
            .collect()
    }

    async fn keep(&mut self, rows: &[RowState]) -> Result<(), SqlError> {
        for row in rows {
            sqlx::query("INSERT INTO rebuilt VALUES ($1, $2, $3, $4, $5, $6)")
                .bind(row.row.key.llm.0)
                .bind(row.row.key.metric.0)
                .bind(row.row.key.source.as_str())
                .bind(row.row.period.to_column())
                .bind(row.state.as_slice())
                .bind(row.n)
                .execute(&mut *self.connection)
                .await?;
        }
        Ok(())
    }

    async fn swap(&mut self) -> Result<Swapped, SqlError> {
        let (rows, changed): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM rebuilt),
                    (SELECT count(*) FROM rebuilt r
                     FULL JOIN statistics s USING (llm_id, metric_id, source, period)
                     WHERE r.state IS NOT s.state OR r.n IS NOT s.n)",
        )
        .fetch_one(&mut *self.connection)
        .await?;
        sqlx::query("UPDATE statistics_revision SET generation = generation + 1, revision = revision + 1")
            .execute(&mut *self.connection)
            .await?;
        sqlx::query(
            "DELETE FROM statistics WHERE (llm_id, metric_id, source, period) NOT IN (
                 SELECT llm_id, metric_id, source, period FROM rebuilt)",
        )
        .execute(&mut *self.connection)
        .await?;
        sqlx::query(
            "INSERT INTO statistics (llm_id, metric_id, source, period, state, n, revision, updated_at)
             SELECT llm_id, metric_id, source, period, state, n, revision, $1
             FROM rebuilt JOIN statistics_revision WHERE true
             ON CONFLICT (llm_id, metric_id, source, period) DO UPDATE
                 SET state = excluded.state, n = excluded.n, revision = excluded.revision,
                     updated_at = excluded.updated_at
                 WHERE state IS NOT excluded.state OR n IS NOT excluded.n",
        )
        .bind(to_column(self.now))
        .execute(&mut *self.connection)
        .await?;
        sqlx::query("DELETE FROM rebuilt")
            .execute(&mut *self.connection)
            .await?;
        Ok(Swapped {
            rows: rows.cast_unsigned(),
            changed: changed.cast_unsigned(),
        })
    }
}
