//! The recomputation of all statistics, in one transaction.
//!
//! Whoever counts batches shares the lock [`COUNTING`] and commits before it is granted to a rebuild alone; from then on
//! they are refused at once and take no messages. Readers go on with the rows as they were. Should this process or the
//! server die, the server rolls everything back and releases the lock.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use storage::RebuildReport;
use storage_sql::{
    SqlError,
    rebuild::{self, RebuildTransaction},
    statistics_rows::{RowKey, RowState},
};

use crate::{
    PostgresStorage,
    advisory_locks::{COUNTING, MAINTENANCE},
    connection::in_time,
    counted_batches,
    recomputation::Recomputation,
    retention,
    settings::GRACE,
    statistics_rows,
};

impl PostgresStorage {
    pub(crate) async fn rebuild_once(
        &self,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<RebuildReport, SqlError> {
        let limits = self.settings.rebuild;
        let mut connection = self.acquire().await?;
        // Its locks go with it, also where a server that answers nothing never hears of the rollback.
        connection.close_on_drop();
        let mut transaction = loop {
            let attempt = async {
                let mut transaction = connection.begin().await?;
                if lock(&mut transaction, limits.pause).await? {
                    return Ok(Some(transaction));
                }
                transaction.rollback().await?;
                Ok(None)
            };
            // However long others take, whoever asks again and again learns of a server that answers no more.
            if let Some(transaction) = in_time(3 * self.settings.lock_timeout + GRACE, attempt).await? {
                break transaction;
            }
        };
        let counted = in_time(limits.table + GRACE, async {
            limit_statements(&mut transaction, limits.table).await?;
            let counted = count_retained(&mut transaction).await?;
            limit_statements(&mut transaction, limits.page).await?;
            Ok(counted)
        })
        .await?;
        let mut recomputation = Recomputation {
            connection: &mut transaction,
            deadline: limits.page + GRACE,
        };
        let report = rebuild::run(&mut recomputation, counted, progress).await?;
        in_time(limits.page + GRACE, async { Ok(transaction.commit().await?) }).await?;
        Ok(report)
    }
}

/// Waits for the locks of a rebuild for as long as the server lets us; tells whether they were granted.
async fn lock(connection: &mut PgConnection, pause: Duration) -> Result<bool, SqlError> {
    // Between its statements a rebuild only folds what it has read: a client that is silent for longer was cut off or
    // frozen, and must not hold the locks for as long as TCP believes in it.
    sqlx::query("SELECT set_config('idle_in_transaction_session_timeout', $1, true)")
        .bind(format!("{}ms", pause.as_millis()))
        .execute(&mut *connection)
        .await?;
    for lock in [MAINTENANCE, COUNTING] {
        let granted = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock);
        if !is_granted(granted.execute(&mut *connection).await)? {
            return Ok(false);
        }
    }
    // For whoever changes rows without the lock.
    let granted = sqlx::query("LOCK TABLE statistics IN EXCLUSIVE MODE").execute(connection);
    is_granted(granted.await)
}

fn is_granted<T>(lock: sqlx::Result<T>) -> Result<bool, SqlError> {
    const LOCK_TIMEOUT: &str = "55P03";
    match lock {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == LOCK_TIMEOUT) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

async fn limit_statements(connection: &mut PgConnection, limit: Duration) -> Result<(), SqlError> {
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(format!("{}ms", limit.as_millis()))
        .execute(connection)
        .await?;
    Ok(())
}

async fn count_retained(connection: &mut PgConnection) -> Result<u64, SqlError> {
    let from = retention::retained_from(connection).await?;
    counted_batches::count(connection, from).await
}

#[async_trait]
impl RebuildTransaction for Recomputation<'_> {
    async fn write(&mut self, rows: &[RowState]) -> Result<(), SqlError> {
        in_time(self.deadline, statistics_rows::write(self.connection, rows)).await
    }

    async fn delete(&mut self, rows: &[RowKey]) -> Result<(), SqlError> {
        in_time(self.deadline, statistics_rows::delete(self.connection, rows)).await
    }

    async fn start_generation(&mut self) -> Result<(), SqlError> {
        let next = sqlx::query("UPDATE statistics_generation SET generation = generation + 1");
        in_time(self.deadline, async {
            next.execute(&mut *self.connection).await?;
            Ok(())
        })
        .await
    }
}
