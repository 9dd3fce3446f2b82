//! The transaction that stores and counts batches, with all rows of a call in each statement.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::{BatchId, LlmName, MetricBatch};
use sqlx::{PgConnection, Row, postgres::PgRow};
use statistics::RunningStatistics;
use storage::StorageError;
use storage_sql::{
    SqlError,
    columns::{known_metric, stored_identity},
    statistics_rows::{RowKey, RowState},
    write_transaction::{
        AdmissionRules, EnteredIntoLedger, LedgerCandidate, Publication, StoredIdentity, WriteTransaction,
    },
};
use uuid::Uuid;

use crate::{
    advisory_locks::{COUNTING, RETENTION},
    batch_rows::{self, Units, uuids},
    retention,
    statistics_rows::{KeyColumns, row_key},
};

/// A connection with an open transaction.
pub(crate) struct BatchTransaction<'c>(pub(crate) &'c mut PgConnection);

#[async_trait]
impl WriteTransaction for BatchTransaction<'_> {
    async fn admission_rules(&mut self) -> Result<AdmissionRules, SqlError> {
        let (retained_from, titles, units): (Option<DateTime<Utc>>, Vec<String>, Vec<String>) =
            sqlx::query_as(
                "SELECT retained_from, ARRAY(SELECT title FROM metrics ORDER BY id),
                        ARRAY(SELECT unit FROM metrics ORDER BY id)
                 FROM retention",
            )
            .fetch_one(&mut *self.0)
            .await?;
        let metrics = titles.iter().zip(&units);
        Ok(AdmissionRules {
            metrics: metrics
                .map(|(title, unit)| known_metric(title, unit))
                .collect::<Result<_, _>>()?,
            retained_from: retention::hour(retained_from),
        })
    }

    async fn register_llms(&mut self, names: &[&LlmName]) -> Result<(), SqlError> {
        // The names that are known are left out first: a conflict would use up an id.
        sqlx::query(
            "INSERT INTO llms (name, creator, created_at, updated_at)
             SELECT name, 'unknown', now(), now()
             FROM unnest($1::text[]) WITH ORDINALITY AS given (name, position)
             WHERE NOT EXISTS (SELECT FROM llms WHERE llms.name = given.name)
             ORDER BY position
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(names.iter().map(|name| name.as_str()).collect::<Vec<_>>())
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    /// Takes the lock along, without a round trip. The limit itself is read by a later statement: this one may have
    /// waited for the lock, and would not see what has changed meanwhile.
    async fn stored(&mut self, ids: &[BatchId]) -> Result<HashMap<BatchId, StoredIdentity>, SqlError> {
        let rows = sqlx::query(
            "WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared($2))
             SELECT b.id, b.llm_id, b.metric_id, b.source, b.checksum
             FROM held LEFT JOIN batches b ON b.id = ANY($1)",
        )
        .bind(uuids(ids))
        .bind(RETENTION)
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter()
            .filter_map(|row| identified(row).transpose())
            .collect()
    }

    async fn insert(
        &mut self,
        batches: &[&MetricBatch],
        publication: Publication,
    ) -> Result<HashSet<BatchId>, SqlError> {
        let mut stored = HashSet::with_capacity(batches.len());
        for piece in batch_rows::statements(batches) {
            stored.extend(batch_rows::insert(&mut *self.0, piece, Units::Checked, publication).await?);
        }
        Ok(stored)
    }

    async fn enter_ledger(&mut self, batches: &[LedgerCandidate]) -> Result<EnteredIntoLedger, SqlError> {
        let (may_count, retained_from, new): (bool, Option<DateTime<Utc>>, Vec<Uuid>) = sqlx::query_as(
            "WITH counting AS MATERIALIZED (
                 SELECT pg_try_advisory_xact_lock_shared($3) AS may_count
             ), entered AS (
                 INSERT INTO ledger (batch_id)
                 SELECT given.id
                 FROM ROWS FROM (unnest($1::uuid[]), unnest($2::timestamptz[])) WITH ORDINALITY
                      AS given (id, batch_at, position)
                 JOIN retention r ON given.batch_at >= coalesce(r.retained_from, '-infinity')
                 WHERE (SELECT may_count FROM counting)
                 ORDER BY given.position
                 ON CONFLICT (batch_id) DO NOTHING
                 RETURNING batch_id
             )
             SELECT may_count, retained_from, ARRAY(SELECT batch_id FROM entered) FROM counting, retention",
        )
        .bind(batches.iter().map(|batch| batch.id.as_uuid()).collect::<Vec<_>>())
        .bind(batches.iter().map(|batch| batch.timestamp).collect::<Vec<_>>())
        .bind(COUNTING)
        .fetch_one(&mut *self.0)
        .await?;
        if !may_count {
            return Err(StorageError::Rebuilding.into());
        }
        Ok(EnteredIntoLedger {
            new: new.into_iter().map(BatchId::from).collect(),
            retained_from: retention::hour(retained_from),
        })
    }

    async fn counted(&mut self, ids: &[BatchId]) -> Result<HashSet<BatchId>, SqlError> {
        let counted: Vec<Uuid> = sqlx::query_scalar("SELECT batch_id FROM ledger WHERE batch_id = ANY($1)")
            .bind(uuids(ids))
            .fetch_all(&mut *self.0)
            .await?;
        Ok(counted.into_iter().map(BatchId::from).collect())
    }

    /// Missing rows are inserted before existing ones are locked. Whoever waits for an uncommitted insert therefore
    /// holds nothing but inserts that sort before it, and whoever waits for a row lock only locks that do: there is
    /// no circle. Two consumers that bring the same new row meet at the insert, and the later one then sees it.
    async fn lock_statistics(&mut self, rows: &[RowKey]) -> Result<Vec<(RowKey, Vec<u8>)>, SqlError> {
        let keys = KeyColumns::of(rows.iter());
        sqlx::query(
            "INSERT INTO statistics (llm_id, metric_id, source, period, state, n)
             SELECT llm_id, metric_id, source, period, $5, 0
             FROM ROWS FROM (
                 unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::text[]), unnest($4::bigint[])
             ) WITH ORDINALITY AS given (llm_id, metric_id, source, period, position)
             ORDER BY position
             ON CONFLICT (llm_id, metric_id, source, period) DO NOTHING",
        )
        .bind(&keys.llms)
        .bind(&keys.metrics)
        .bind(&keys.sources)
        .bind(&keys.periods)
        .bind(RunningStatistics::new().to_bytes())
        .execute(&mut *self.0)
        .await?;
        let rows = sqlx::query(
            "SELECT s.llm_id, s.metric_id, s.source, s.period, s.state
             FROM ROWS FROM (
                 unnest($1::bigint[]), unnest($2::bigint[]), unnest($3::text[]), unnest($4::bigint[])
             ) WITH ORDINALITY AS given (llm_id, metric_id, source, period, position)
             JOIN statistics s USING (llm_id, metric_id, source, period)
             ORDER BY given.position
             FOR UPDATE OF s",
        )
        .bind(keys.llms)
        .bind(keys.metrics)
        .bind(keys.sources)
        .bind(keys.periods)
        .fetch_all(&mut *self.0)
        .await?;
        rows.iter()
            .map(|row| Ok((row_key(row)?, row.try_get("state")?)))
            .collect()
    }

    async fn write_statistics(&mut self, rows: &[RowState]) -> Result<(), SqlError> {
        let keys = KeyColumns::of(rows.iter().map(|row| &row.row));
        sqlx::query(
            "UPDATE statistics s
             SET state = given.state, n = given.n, revision = pg_current_xact_id(), updated_at = now()
             FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[], $6::bigint[])
                  AS given (llm_id, metric_id, source, period, state, n)
             WHERE (s.llm_id, s.metric_id, s.source, s.period)
                 = (given.llm_id, given.metric_id, given.source, given.period)",
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
}

/// `None` for the row that stands for no batch at all.
fn identified(row: &PgRow) -> Result<Option<(BatchId, StoredIdentity)>, SqlError> {
    let Some(id) = row.try_get::<Option<Uuid>, _>("id")? else {
        return Ok(None);
    };
    let identity = stored_identity(
        row.try_get("llm_id")?,
        row.try_get("metric_id")?,
        row.try_get("source")?,
        row.try_get("checksum")?,
    )?;
    Ok(Some((id.into(), identity)))
}
