use std::{fmt, io, time::Duration};

use futures::future::BoxFuture;
use sqlx::{
    PgConnection, Postgres, Transaction,
    pool::PoolConnection,
    postgres::{PgPool, PgPoolOptions},
};
use storage::{Result, StorageError};
use storage_sql::SqlError;
use tokio_retry::{
    RetryIf,
    strategy::{ExponentialBackoff, jitter},
};

use crate::PostgresSettings;

/// Beyond this age, an idle connection may have died without anybody noticing.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);
/// How long a connection whose operation is over may take to answer that it can be used again.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait between two tries.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// The storage ports on one PostgreSQL database.
pub struct PostgresStorage {
    pub(crate) pool: PgPool,
    pub(crate) settings: PostgresSettings,
}

impl PostgresStorage {
    /// Storage that connects when it is first used, so that a service may be started before its database.
    #[must_use]
    pub fn connect(mut settings: PostgresSettings) -> Self {
        settings.server = settings
            .server
            .clone()
            .application_name(&settings.application_name);
        let pool = pool_options(&settings).connect_lazy_with(settings.server.clone());
        Self { pool, settings }
    }

    /// Runs `attempt`, again after a growing delay where it fails for a reason that passes: one that is not over by
    /// the deadline included, since a server that is frozen or cut off answers nothing at all.
    pub(crate) async fn retrying<T, A, F>(&self, operation: &'static str, mut attempt: A) -> Result<T>
    where
        A: FnMut() -> F,
        F: Future<Output = std::result::Result<T, SqlError>>,
    {
        let deadline = self.settings.longest_operation();
        self.retrying_without_deadline(operation, || in_time(deadline, attempt()))
            .await
    }

    /// Like `retrying`, for operations that take as long as there are data: rebuilds, audits and migrations.
    pub(crate) async fn retrying_without_deadline<T, A, F>(
        &self,
        operation: &'static str,
        mut attempt: A,
    ) -> Result<T>
    where
        A: FnMut() -> F,
        F: Future<Output = std::result::Result<T, SqlError>>,
    {
        // The strategy yields 2, 4, 8, … times its factor in milliseconds.
        let factor = u64::try_from(self.settings.retry_delay.as_millis()).unwrap_or(u64::MAX) / 2;
        let delays = ExponentialBackoff::from_millis(2)
            .factor(factor.max(1))
            .max_delay(LONGEST_DELAY)
            .map(jitter)
            .take(self.settings.max_retries);
        RetryIf::start(
            delays,
            || {
                let attempt = attempt();
                async move { attempt.await.map_err(|error| error.during(operation)) }
            },
            |error: &StorageError| matches!(error, StorageError::Unavailable { .. }),
        )
        .await
    }

    pub(crate) async fn begin(&self) -> std::result::Result<Transaction<'static, Postgres>, SqlError> {
        Ok(self.pool.begin().await?)
    }

    pub(crate) async fn acquire(&self) -> std::result::Result<PoolConnection<Postgres>, SqlError> {
        Ok(self.pool.acquire().await?)
    }
}

/// A server that answers nothing in time is unavailable.
pub(crate) async fn in_time<T>(
    deadline: Duration,
    operation: impl Future<Output = std::result::Result<T, SqlError>>,
) -> std::result::Result<T, SqlError> {
    tokio::time::timeout(deadline, Box::pin(operation))
        .await
        .unwrap_or_else(|elapsed| Err(SqlError::Unavailable(elapsed.into())))
}

impl fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStorage")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn pool_options(settings: &PostgresSettings) -> PgPoolOptions {
    let statement_timeout = settings.statement_timeout;
    let lock_timeout = settings.lock_timeout;
    PgPoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(settings.acquire_timeout)
        // A round trip before every operation, unless the connection was in use a moment ago.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| -> BoxFuture<'_, sqlx::Result<bool>> {
            Box::pin(async move {
                if meta.idle_for > TRUSTED_IDLE {
                    sqlx::Connection::ping(connection).await?;
                }
                Ok(true)
            })
        })
        // The pool asks as well, but without a time limit: a connection whose operation was given up, because the server is
        // cut off, would keep its place in the pool until TCP gives up, after a quarter of an hour.
        .after_release(|connection, _| -> BoxFuture<'_, sqlx::Result<bool>> {
            Box::pin(async move {
                tokio::time::timeout(RELEASE_TIMEOUT, sqlx::Connection::ping(connection))
                    .await
                    .unwrap_or_else(|_elapsed| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))?;
                Ok(true)
            })
        })
        // Not as options of the connection: poolers such as PgBouncer refuse those.
        .after_connect(move |connection, _| Box::pin(configure(connection, statement_timeout, lock_timeout)))
}

async fn configure(
    connection: &mut PgConnection,
    statement_timeout: Duration,
    lock_timeout: Duration,
) -> sqlx::Result<()> {
    // Every statement has an index for what it looks up; but a plan that was made and kept while the tables were
    // small would go on scanning them. Without JIT, because the planner's way to avoid scans is to call them so
    // expensive that those without alternative would be compiled.
    sqlx::query(
        // A client that froze or was cut off in mid-transaction would keep its rows locked for as long as TCP believes
        // in it, which is hours; no operation pauses for longer than a statement may take.
        "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
                set_config('idle_in_transaction_session_timeout', $1, false),
                set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false)",
    )
    .bind(format!("{}ms", statement_timeout.as_millis()))
    .bind(format!("{}ms", lock_timeout.as_millis()))
    .execute(connection)
    .await?;
    Ok(())
}
