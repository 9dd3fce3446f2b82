//! The recomputation of all statistics beside consumers that go on.
//!
//! What was counted before some point is told from what was counted after by the transaction that entered it into the
//! ledger and by a snapshot, not by a time or a number: transactions commit in another order than they begin in. No
//! transaction stays open meanwhile, so nothing keeps the server from cleaning up and readers of changes from moving on.

mod in_time;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::BatchId;
use sqlx::{Postgres, pool::PoolConnection, postgres::PgArguments, query::Query};
use storage::{
    Hour, Period, RebuildReport,
    fold::{RowKey, RowState},
    rebuild::{self, Begun, CountedBatch, Place, RebuildSession, Swapped},
    step::StepError,
};
use uuid::Uuid;

use self::in_time::InTime;
use crate::{
    PostgresStorage, RebuildLimits,
    advisory_locks::MAINTENANCE,
    connection::in_time,
    fault::{SqlError, is_lock_timeout},
    intake::KeyColumns,
    ledger_pages, retention,
    settings::GRACE,
    statistics_rows,
};

impl PostgresStorage {
    pub(crate) async fn rebuild_once(
        &self,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<RebuildReport, SqlError> {
        let mut connection = self.acquire().await?;
        // Its lock, its temporary table and its settings go with it, whatever happens.
        connection.close_on_drop();
        let limits = self.settings.rebuild;
        let mut session = Rebuild {
            connection,
            counted_by: None,
            limits,
            lock_timeout: self.settings.lock_timeout,
        };
        session.take_turn().await?;
        let mut session = InTime { session, limits };
        let report = rebuild::run(&mut session, progress).await?;
        session.session.end_turn().await?;
        Ok(report)
    }
}

struct Rebuild {
    connection: PoolConnection<Postgres>,
    /// `pg_snapshot` as text: what it sees has been asked for.
    counted_by: Option<String>,
    limits: RebuildLimits,
    /// How long the server lets us wait for a lock.
    lock_timeout: Duration,
}

impl Rebuild {
    async fn execute(&mut self, statement: &'static str) -> Result<(), SqlError> {
        sqlx::query(statement).execute(&mut *self.connection).await?;
        Ok(())
    }

    /// Tells the server how long statements may take, and for how long we may say nothing. Between its statements a
    /// rebuild only folds what it has read: a client that is silent for longer was cut off or frozen, and its session
    /// must not hold the lock for as long as TCP believes in it.
    async fn limit_statements(&mut self, limit: Duration) -> Result<(), SqlError> {
        sqlx::query(
            "SELECT set_config('statement_timeout', $1, false), set_config('idle_session_timeout', $2, false)",
        )
        .bind(format!("{}ms", limit.as_millis()))
        .bind(format!("{}ms", self.limits.pause.as_millis()))
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Waits for the lock for as long as the server lets us; tells whether it was granted. However long the holder
    /// takes, whoever asks again and again learns of a server that answers no more.
    async fn is_granted(&mut self, lock: Query<'_, Postgres, PgArguments>) -> Result<bool, SqlError> {
        match lock.execute(&mut *self.connection).await {
            Ok(_) => Ok(true),
            Err(error) if is_lock_timeout(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn take_turn(&mut self) -> Result<(), SqlError> {
        let limit = self.limits.table;
        in_time(self.limits.page + GRACE, self.limit_statements(limit)).await?;
        let lock = || sqlx::query("SELECT pg_advisory_lock($1)").bind(MAINTENANCE);
        while !in_time(self.lock_timeout + GRACE, self.is_granted(lock())).await? {}
        Ok(())
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
        in_time(self.limits.page + GRACE, async {
            sqlx::query("SELECT pg_advisory_unlock($1)")
                .bind(MAINTENANCE)
                .execute(&mut *self.connection)
                .await?;
            Ok(())
        })
        .await
    }

    async fn try_to_exclude_consumers(&mut self) -> Result<Option<Hour>, SqlError> {
        self.execute("BEGIN").await?;
        let lock = sqlx::query("LOCK TABLE statistics IN EXCLUSIVE MODE");
        if !self.is_granted(lock).await? {
            self.execute("ROLLBACK").await?;
            return Ok(None);
        }
        self.limit_statements(self.limits.table).await?;
        Ok(Some(retention::retained_from(&mut self.connection).await?))
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
        self.limit_statements(self.limits.page).await?;
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
    /// on with the rows as they were. Consumers that come later wait behind whoever waits for the lock: asking again
    /// lets them pass.
    async fn exclude_consumers(&mut self) -> Result<Hour, SqlError> {
        let deadline = self.lock_timeout + self.limits.page + GRACE;
        loop {
            if let Some(retained_from) = in_time(deadline, self.try_to_exclude_consumers()).await? {
                return Ok(retained_from);
            }
        }
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
