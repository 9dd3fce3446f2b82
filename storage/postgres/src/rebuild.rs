use async_trait::async_trait;
use sqlx::{PgConnection, Row};
use storage::{
    RebuildReport,
    columns::statistics_key,
    fold::RowState,
    rebuild::{self, CountedBatch, Place, RebuildTransaction, Swapped},
};
use uuid::Uuid;

use crate::{PostgresStorage, fault::SqlError, intake::KeyColumns};

impl PostgresStorage {
    pub(crate) async fn rebuild_once(
        &self,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<RebuildReport, SqlError> {
        let mut transaction = self.begin().await?;
        let report = rebuild::run(&mut Rebuild(&mut transaction), progress).await?;
        transaction.commit().await?;
        Ok(report)
    }
}

/// A connection with an open transaction.
struct Rebuild<'c>(&'c mut PgConnection);

#[async_trait]
impl RebuildTransaction for Rebuild<'_> {
    type Error = SqlError;

    /// Consumers enter the ledger before they touch the statistics and commit both at once: when the lock is granted,
    /// every batch that is in the statistics is in the ledger, and until it is released none joins them. Readers go
    /// on with the rows as they were.
    async fn begin(&mut self) -> Result<u64, SqlError> {
        for statement in [
            "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)",
            "LOCK TABLE statistics IN EXCLUSIVE MODE",
            "CREATE TEMPORARY TABLE rebuilt (
                 llm_id bigint, metric_id bigint, source text, period bigint, state bytea, n bigint
             ) ON COMMIT DROP",
        ] {
            sqlx::query(statement).execute(&mut *self.0).await?;
        }
        let counted: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger")
            .fetch_one(&mut *self.0)
            .await?;
        Ok(counted.cast_unsigned())
    }

    async fn page(&mut self, after: Option<Place>, limit: u32) -> Result<Vec<CountedBatch>, SqlError> {
        let rows = sqlx::query(
            "SELECT b.id, b.llm_id, b.metric_id, b.source, b.batch_at, b.data_points
             FROM batches b JOIN ledger l ON l.batch_id = b.id
             WHERE (b.batch_at, b.id) > (coalesce($1, '-infinity'::timestamptz),
                                         coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid))
             ORDER BY b.batch_at, b.id
             LIMIT $3",
        )
        .bind(after.map(|place| place.timestamp))
        .bind(after.map(|place| place.id.as_uuid()))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(CountedBatch {
                    place: Place {
                        timestamp: row.try_get("batch_at")?,
                        id: row.try_get::<Uuid, _>("id")?.into(),
                    },
                    key: statistics_key(
                        row.try_get("llm_id")?,
                        row.try_get("metric_id")?,
                        row.try_get("source")?,
                    )?,
                    values: row.try_get("data_points")?,
                })
            })
            .collect()
    }

    async fn keep(&mut self, rows: &[RowState]) -> Result<(), SqlError> {
        let keys = KeyColumns::of(rows.iter().map(|row| &row.row));
        sqlx::query(
            "INSERT INTO rebuilt
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[], $6::bigint[])",
        )
        .bind(keys.llms)
        .bind(keys.metrics)
        .bind(keys.sources)
        .bind(keys.periods)
        .bind(rows.iter().map(|row| row.state.as_slice()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.n).collect::<Vec<_>>())
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    async fn swap(&mut self) -> Result<Swapped, SqlError> {
        let (rows, changed): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM rebuilt),
                    (SELECT count(*) FROM rebuilt r
                     FULL JOIN statistics s USING (llm_id, metric_id, source, period)
                     WHERE (r.state, r.n) IS DISTINCT FROM (s.state, s.n))",
        )
        .fetch_one(&mut *self.0)
        .await?;
        for statement in [
            "DELETE FROM statistics s WHERE NOT EXISTS (
                 SELECT FROM rebuilt r
                 WHERE (r.llm_id, r.metric_id, r.source, r.period) = (s.llm_id, s.metric_id, s.source, s.period))",
            "INSERT INTO statistics (llm_id, metric_id, source, period, state, n)
             SELECT llm_id, metric_id, source, period, state, n FROM rebuilt
             ON CONFLICT (llm_id, metric_id, source, period) DO UPDATE
                 SET state = excluded.state, n = excluded.n, revision = excluded.revision,
                     updated_at = excluded.updated_at
                 WHERE (statistics.state, statistics.n) IS DISTINCT FROM (excluded.state, excluded.n)",
            "UPDATE statistics_generation SET generation = generation + 1",
        ] {
            sqlx::query(statement).execute(&mut *self.0).await?;
        }
        Ok(Swapped {
            rows: rows.cast_unsigned(),
            changed: changed.cast_unsigned(),
        })
    }
}
