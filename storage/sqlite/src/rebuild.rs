//! The recomputation of all statistics beside consumers that go on.
//!
//! What was counted before some point is told from what was counted after by the revision that the ledger notes: there is
//! one writer at a time, so revisions are committed in their order. Between two steps nothing is held, neither a
//! transaction nor a connection, so that an ephemeral database, which has one of each, serves others meanwhile.

use async_trait::async_trait;
use shared_types::BatchId;
use sqlx::{Row, Sqlite, SqliteConnection, Transaction};
use storage::{
    Hour, Period, RebuildReport,
    columns::RowKeyColumns,
    fold::{RowKey, RowState},
    rebuild::{self, Begun, CountedBatch, Place, RebuildSession, Swapped},
};
use uuid::Uuid;

use crate::{
    SqliteStorage,
    fault::SqlError,
    ledger_pages, retention, statistics_rows,
    time_columns::{start_of, to_column},
};

impl SqliteStorage {
    pub(crate) async fn rebuild_once(
        &self,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<RebuildReport, SqlError> {
        let _turn = self.maintenance.lock().await;
        let mut session = Rebuild {
            storage: self,
            counted_by: 0,
            swapping: None,
        };
        rebuild::run(&mut session, progress).await
    }
}

struct Rebuild<'s> {
    storage: &'s SqliteStorage,
    /// The revision up to which what was counted has been asked for.
    counted_by: i64,
    swapping: Option<Transaction<'static, Sqlite>>,
}

/// Runs a step in the transaction of the swap, or on a connection of the pool for as long as the step takes.
macro_rules! on {
    ($session:ident.$pool:ident, $connection:ident => $step:expr) => {
        match &mut $session.swapping {
            Some(transaction) => {
                let $connection: &mut SqliteConnection = transaction;
                $step
            }
            None => {
                let mut connection = $session.storage.$pool.acquire().await?;
                let $connection: &mut SqliteConnection = &mut connection;
                $step
            }
        }
    };
}

#[async_trait]
impl RebuildSession for Rebuild<'_> {
    type Error = SqlError;

    /// The rows are put aside in a table of the one connection that writes: no other sees it, and writing to it keeps
    /// nobody from writing to the file.
    async fn begin(&mut self) -> Result<Begun, SqlError> {
        let mut transaction = self.storage.begin().await?;
        for statement in [
            "CREATE TEMPORARY TABLE IF NOT EXISTS rebuilt (
                 llm_id INTEGER, metric_id INTEGER, source TEXT, period INTEGER, state BLOB, n INTEGER,
                 PRIMARY KEY (llm_id, metric_id, source, period)
             )",
            "DELETE FROM rebuilt",
        ] {
            sqlx::query(statement).execute(&mut *transaction).await?;
        }
        let (revision, counted): (i64, i64) =
            sqlx::query_as("SELECT revision, (SELECT count(*) FROM ledger) FROM statistics_revision")
                .fetch_one(&mut *transaction)
                .await?;
        let retained_from = retention::retained_from(&mut transaction).await?;
        transaction.commit().await?;
        self.counted_by = revision;
        Ok(Begun {
            counted: counted.cast_unsigned(),
            retained_from,
        })
    }

    async fn page(
        &mut self,
        from: Hour,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Vec<CountedBatch>, SqlError> {
        let counted_by = self.counted_by;
        on!(self.readers, connection => ledger_pages::page(connection, from, after, limit, counted_by).await)
    }

    async fn counted_since(&mut self) -> Result<Vec<BatchId>, SqlError> {
        let before = self.counted_by;
        let (revision, ids): (i64, Vec<Uuid>) = on!(self.readers, connection => {
            let revision = sqlx::query_scalar("SELECT revision FROM statistics_revision")
                .fetch_one(&mut *connection)
                .await?;
            let ids = sqlx::query_scalar("SELECT batch_id FROM ledger WHERE counted_in > $1 AND counted_in <= $2")
                .bind(before)
                .bind(revision)
                .fetch_all(connection)
                .await?;
            (revision, ids)
        });
        self.counted_by = revision;
        Ok(ids.into_iter().map(BatchId::from).collect())
    }

    async fn load(&mut self, ids: &[BatchId]) -> Result<Vec<CountedBatch>, SqlError> {
        on!(self.readers, connection => ledger_pages::load(connection, ids).await)
    }

    async fn rows(
        &mut self,
        before: Hour,
        after: Option<RowKey>,
        limit: u32,
    ) -> Result<Vec<RowState>, SqlError> {
        on!(self.readers, connection => statistics_rows::rows(connection, before, after, limit).await)
    }

    async fn kept(&mut self, rows: &[RowKey]) -> Result<Vec<(RowKey, Vec<u8>)>, SqlError> {
        on!(self.writer, connection => kept(connection, rows).await)
    }

    async fn keep(&mut self, rows: &[RowState]) -> Result<(), SqlError> {
        on!(self.writer, connection => keep(connection, rows).await)
    }

    async fn exclude_consumers(&mut self) -> Result<Hour, SqlError> {
        let transaction = self.swapping.insert(self.storage.begin().await?);
        retention::retained_from(transaction).await
    }

    async fn are_all(&mut self, from: Hour, batches: u64) -> Result<bool, SqlError> {
        let counted: i64 = on!(self.readers, connection => {
            sqlx::query_scalar(
                "SELECT count(*) FROM ledger l JOIN batches b ON b.id = l.batch_id WHERE b.batch_at >= $1",
            )
            .bind(start_of(from))
            .fetch_one(connection)
            .await?
        });
        Ok(counted.cast_unsigned() == batches)
    }

    async fn swap(&mut self, from: Hour) -> Result<Swapped, SqlError> {
        let mut transaction = match self.swapping.take() {
            Some(transaction) => transaction,
            None => self.storage.begin().await?,
        };
        let (rows, changed): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM rebuilt),
                    (SELECT count(*) FROM rebuilt r
                     FULL JOIN (SELECT * FROM statistics WHERE period >= $1 OR period = $2) s
                         USING (llm_id, metric_id, source, period)
                     WHERE r.state IS NOT s.state OR r.n IS NOT s.n)",
        )
        .bind(from.0)
        .bind(Period::AllTime.to_column())
        .fetch_one(&mut *transaction)
        .await?;
        sqlx::query("UPDATE statistics_revision SET generation = generation + 1, revision = revision + 1")
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "DELETE FROM statistics
             WHERE (period >= $1 OR period = $2) AND (llm_id, metric_id, source, period) NOT IN (
                 SELECT llm_id, metric_id, source, period FROM rebuilt)",
        )
        .bind(from.0)
        .bind(Period::AllTime.to_column())
        .execute(&mut *transaction)
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
        .bind(to_column(self.storage.now()))
        .execute(&mut *transaction)
        .await?;
        sqlx::query("DELETE FROM rebuilt")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Swapped {
            rows: rows.cast_unsigned(),
            changed: changed.cast_unsigned(),
        })
    }
}

async fn kept(
    connection: &mut SqliteConnection,
    rows: &[RowKey],
) -> Result<Vec<(RowKey, Vec<u8>)>, SqlError> {
    let mut states = Vec::with_capacity(rows.len());
    for row in rows {
        let key = RowKeyColumns::from(*row);
        let kept = sqlx::query(
            "SELECT state FROM rebuilt WHERE llm_id = $1 AND metric_id = $2 AND source = $3 AND period = $4",
        )
        .bind(key.llm_id)
        .bind(key.metric_id)
        .bind(key.source)
        .bind(key.period)
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(kept) = kept {
            states.push((*row, kept.try_get("state")?));
        }
    }
    Ok(states)
}

async fn keep(connection: &mut SqliteConnection, rows: &[RowState]) -> Result<(), SqlError> {
    for row in rows {
        let key = RowKeyColumns::from(row.row);
        sqlx::query(
            "INSERT INTO rebuilt VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (llm_id, metric_id, source, period) DO UPDATE SET state = excluded.state, n = excluded.n",
        )
        .bind(key.llm_id)
        .bind(key.metric_id)
        .bind(key.source)
        .bind(key.period)
        .bind(row.state.as_slice())
        .bind(row.n)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
