//! The recomputation of all statistics beside consumers that go on.
//!
//! What was counted before some point is told from what was counted after by the transaction that entered it into the
//! ledger and by a snapshot, not by a time or a number: transactions commit in another order than they begin in. No
//! transaction stays open meanwhile, so nothing keeps the server from cleaning up and readers of changes from moving on.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::BatchId;
use sqlx::{Postgres, pool::PoolConnection};
use storage::{
    Hour, Period, RebuildReport,
    fold::{RowKey, RowState},
    rebuild::{self, Begun, CountedBatch, Place, RebuildSession, Swapped},
    step::StepError,
};
use uuid::Uuid;

use crate::{
    PostgresStorage, advisory_locks::MAINTENANCE, fault::SqlError, intake::KeyColumns, ledger_pages,
    retention, statistics_rows,
};

impl PostgresStorage {
    pub(crate) async fn rebuild_once(
        &self,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<RebuildReport, SqlError> {
        let mut connection = self.acquire().await?;
        // Its lock, its temporary table and its settings go with it, whatever happens.
        connection.close_on_drop();
        let mut session = Rebuild {
            connection,
            counted_by: None,
        };
        session.take_turn().await?;
        let report = rebuild::run(&mut session, progress).await?;
        session.end_turn().await?;
        Ok(report)
    }
}

/// For all that waits for nobody: as long as the largest history takes, and not for ever.
const LIMIT_STATEMENTS: &str = "SET statement_timeout = '1h'";

struct Rebuild {
    connection: PoolConnection<Postgres>,
    /// `pg_snapshot` as text: what it sees has been asked for.
    counted_by: Option<String>,
}

impl Rebuild {
    async fn execute(&mut self, statement: &'static str) -> Result<(), SqlError> {
        sqlx::query(statement).execute(&mut *self.connection).await?;
        Ok(())
    }

    async fn take_turn(&mut self) -> Result<(), SqlError> {
        // Between its statements a rebuild only folds what it has read: a client that is silent for longer was cut off or
        // frozen, and its session must not hold the lock for as long as TCP believes in it.
        self.execute(
            "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false),
                    set_config('idle_session_timeout', '10min', false)",
        )
        .await?;
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(MAINTENANCE)
            .execute(&mut *self.connection)
            .await?;
        self.execute(LIMIT_STATEMENTS).await
    }

    /// In a ledger that was restored into another server, transaction ids are those of the server before, which say
    /// nothing here. A row that we see and whose transaction our snapshot does not see is such a one: it counts as old.
    async fn adopt_restored(&mut self) -> Result<(), SqlError> {
        // Looked for first: whoever finds none needs no right to change them.
        let restored: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM ledger WHERE counted_in >=
                 pg_snapshot_xmin(pg_current_snapshot())::text::bigint
             AND NOT pg_visible_in_snapshot(counted_in::text::xid8, pg_current_snapshot()))",
        )
        .fetch_one(&mut *self.connection)
        .await?;
        if restored {
            self.execute(
                "UPDATE ledger SET counted_in = 0
                 WHERE counted_in >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                   AND NOT pg_visible_in_snapshot(counted_in::text::xid8, pg_current_snapshot())",
            )
            .await?;
        }
        Ok(())
    }

    /// Now, not when the server notices that the connection is gone.
    async fn end_turn(&mut self) -> Result<(), SqlError> {
        sqlx::query("SELECT pg_advisory_unlock($1)")
            .bind(MAINTENANCE)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    fn counted_by(&self) -> Result<&str, StepError> {
        self.counted_by
            .as_deref()
            .ok_or_else(|| StepError::fault("a rebuild goes on before it has begun"))
    }
}

#[async_trait]
impl RebuildSession for Rebuild {
    type Error = SqlError;

    async fn begin(&mut self) -> Result<Begun, SqlError> {
        self.adopt_restored().await?;
        self.execute(
            "CREATE TEMPORARY TABLE rebuilt (
                 llm_id bigint, metric_id bigint, source text, period bigint, state bytea, n bigint,
                 PRIMARY KEY (llm_id, metric_id, source, period)
             )",
        )
        .await?;
        let (snapshot, counted, retained_from): (String, i64, Option<DateTime<Utc>>) = sqlx::query_as(
            "SELECT pg_current_snapshot()::text, (SELECT count(*) FROM ledger),
                    (SELECT retained_from FROM retention)",
        )
        .fetch_one(&mut *self.connection)
        .await?;
        self.counted_by = Some(snapshot);
        Ok(Begun {
            counted: counted.cast_unsigned(),
            retained_from: retention::hour(retained_from),
        })
    }

    async fn page(
        &mut self,
        from: Hour,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Vec<CountedBatch>, SqlError> {
        let counted_by = self.counted_by.as_deref();
        ledger_pages::page(&mut self.connection, from, after, limit, counted_by).await
    }

    /// What a snapshot does not see has a transaction id from its xmin on, which the index finds.
    async fn counted_since(&mut self) -> Result<Vec<BatchId>, SqlError> {
        let before = self.counted_by()?.to_owned();
        let (snapshot, ids): (String, Vec<Uuid>) = sqlx::query_as(
            "SELECT pg_current_snapshot()::text,
                    ARRAY(SELECT batch_id FROM ledger
                          WHERE counted_in >= pg_snapshot_xmin($1::text::pg_snapshot)::text::bigint
                            AND NOT pg_visible_in_snapshot(counted_in::text::xid8, $1::text::pg_snapshot))",
        )
        .bind(before)
        .fetch_one(&mut *self.connection)
        .await?;
        self.counted_by = Some(snapshot);
        Ok(ids.into_iter().map(BatchId::from).collect())
    }

    async fn load(&mut self, ids: &[BatchId]) -> Result<Vec<CountedBatch>, SqlError> {
        ledger_pages::load(&mut self.connection, ids).await
    }

    async fn rows(
        &mut self,
        before: Hour,
        after: Option<RowKey>,
        limit: u32,
    ) -> Result<Vec<RowState>, SqlError> {
        statistics_rows::rows(&mut self.connection, before, after, limit).await
    }

    async fn kept(&mut self, rows: &[RowKey]) -> Result<Vec<(RowKey, Vec<u8>)>, SqlError> {
        let keys = KeyColumns::of(rows.iter());
        sqlx::query(
            "SELECT llm_id, metric_id, source, period, state
             FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[])
                  AS given (llm_id, metric_id, source, period)
             JOIN rebuilt USING (llm_id, metric_id, source, period)",
        )
        .bind(keys.llms)
        .bind(keys.metrics)
        .bind(keys.sources)
        .bind(keys.periods)
        .fetch_all(&mut *self.connection)
        .await?
        .iter()
        .map(|row| Ok((statistics_rows::row_key(row)?, sqlx::Row::try_get(row, "state")?)))
        .collect()
    }

    async fn keep(&mut self, rows: &[RowState]) -> Result<(), SqlError> {
        let keys = KeyColumns::of(rows.iter().map(|row| &row.row));
        sqlx::query(
            "INSERT INTO rebuilt
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[], $6::bigint[])
             ON CONFLICT (llm_id, metric_id, source, period) DO UPDATE SET state = excluded.state, n = excluded.n",
        )
        .bind(keys.llms)
        .bind(keys.metrics)
        .bind(keys.sources)
        .bind(keys.periods)
        .bind(rows.iter().map(|row| row.state.as_slice()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.n).collect::<Vec<_>>())
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Consumers enter the ledger before they touch the statistics and commit both at once: when the lock is granted,
    /// every batch that is in the statistics is in the ledger, and until it is released none joins them. Readers go
    /// on with the rows as they were.
    async fn exclude_consumers(&mut self) -> Result<Hour, SqlError> {
        self.execute("BEGIN").await?;
        self.execute("SET statement_timeout = 0").await?;
        self.execute("LOCK TABLE statistics IN EXCLUSIVE MODE").await?;
        self.execute(LIMIT_STATEMENTS).await?;
        retention::retained_from(&mut self.connection).await
    }

    async fn are_all(&mut self, from: Hour, batches: u64) -> Result<bool, SqlError> {
        let counted: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger")
            .fetch_one(&mut *self.connection)
            .await?;
        if counted.cast_unsigned() == batches {
            return Ok(true);
        }
        // Without what is yet to be pruned. Only now, since it takes longer and consumers wait.
        let retained: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM ledger l JOIN batches b ON b.id = l.batch_id
             WHERE b.batch_at >= coalesce($1, '-infinity'::timestamptz)",
        )
        .bind(ledger_pages::start_of(from))
        .fetch_one(&mut *self.connection)
        .await?;
        Ok(retained.cast_unsigned() == batches)
    }

    async fn swap(&mut self, from: Hour) -> Result<Swapped, SqlError> {
        let (rows, changed): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM rebuilt),
                    (SELECT count(*) FROM rebuilt r
                     FULL JOIN (SELECT * FROM statistics WHERE period >= $1 OR period = $2) s
                         USING (llm_id, metric_id, source, period)
                     WHERE (r.state, r.n) IS DISTINCT FROM (s.state, s.n))",
        )
        .bind(from.0)
        .bind(Period::AllTime.to_column())
        .fetch_one(&mut *self.connection)
        .await?;
        sqlx::query(
            "DELETE FROM statistics s WHERE (period >= $1 OR period = $2) AND NOT EXISTS (
                 SELECT FROM rebuilt r
                 WHERE (r.llm_id, r.metric_id, r.source, r.period) = (s.llm_id, s.metric_id, s.source, s.period))",
        )
        .bind(from.0)
        .bind(Period::AllTime.to_column())
        .execute(&mut *self.connection)
        .await?;
        for statement in [
            "INSERT INTO statistics (llm_id, metric_id, source, period, state, n)
             SELECT llm_id, metric_id, source, period, state, n FROM rebuilt
             ON CONFLICT (llm_id, metric_id, source, period) DO UPDATE
                 SET state = excluded.state, n = excluded.n, revision = excluded.revision,
                     updated_at = excluded.updated_at
                 WHERE (statistics.state, statistics.n) IS DISTINCT FROM (excluded.state, excluded.n)",
            "UPDATE statistics_generation SET generation = generation + 1",
            "COMMIT",
        ] {
            self.execute(statement).await?;
        }
        Ok(Swapped {
            rows: rows.cast_unsigned(),
            changed: changed.cast_unsigned(),
        })
    }
}
