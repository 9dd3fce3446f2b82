use async_trait::async_trait;
use shared_types::Invalid;
use sqlx::{
    ConnectOptions, Connection, PgConnection,
    migrate::{Migrate, MigrateError},
};
use storage::{DatabaseInfo, Maintenance, Result, ServiceRole, StorageError};
use storage_sql::SqlError;

use crate::{PostgresStorage, migrations::MIGRATIONS, privileges};

#[async_trait]
impl Maintenance for PostgresStorage {
    async fn migrate(&self) -> Result<u32> {
        self.retrying_without_deadline("migrate", async || {
            // A connection without time limits: a migration may take long, and another process may be at it. The
            // advisory lock goes with the connection, whatever happens.
            let mut connection = self.settings.server.connect().await?;
            let applied = run_missing(&mut connection).await?;
            connection.close().await?;
            Ok(applied)
        })
        .await
    }

    async fn grant(&self, role: &str, service: ServiceRole) -> Result<()> {
        self.retrying("grant rights to a role", async || {
            let mut connection = self.acquire().await?;
            privileges::grant(&mut connection, role, service).await
        })
        .await
    }

    async fn database_info(&self) -> Result<DatabaseInfo> {
        self.retrying("read the database's version", async || {
            let mut connection = self.acquire().await?;
            let version: String = sqlx::query_scalar("SELECT current_setting('server_version')")
                .fetch_one(&mut *connection)
                .await?;
            let applied = applied(&mut connection).await?;
            let all = u32::try_from(MIGRATIONS.iter().count()).unwrap_or(u32::MAX);
            Ok(DatabaseInfo {
                version: format!("PostgreSQL {version}"),
                applied_migrations: applied,
                pending_migrations: all.saturating_sub(applied),
            })
        })
        .await
    }

    async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1")
            .execute(&self.pool)
            .await
            .map(|_| ())
            .map_err(|error| SqlError::from(error).during("ping"))
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// How many were applied, by this process or another one that held the lock before: counted under a lock of our own,
/// so that of processes that start together exactly one reports each migration.
async fn run_missing(connection: &mut PgConnection) -> std::result::Result<u32, SqlError> {
    connection.lock().await?;
    let before = applied(connection).await?;
    // Advisory locks are counted: the migrator takes and releases it once more.
    let run = MIGRATIONS.run_direct(None, connection, false).await;
    run.map_err(|error| forbidden(&error).unwrap_or_else(|| error.into()))?;
    let after = applied(connection).await?;
    connection.unlock().await?;
    Ok(after - before)
}

async fn applied(connection: &mut PgConnection) -> std::result::Result<u32, SqlError> {
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        return Ok(0);
    }
    let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations WHERE success")
        .fetch_one(connection)
        .await?;
    Ok(u32::try_from(applied).unwrap_or(u32::MAX))
}

/// A role that may not change the schema is told who may.
fn forbidden(error: &MigrateError) -> Option<SqlError> {
    const INSUFFICIENT_PRIVILEGE: &str = "42501";
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = error else {
        return None;
    };
    let code = cause.as_database_error()?.code()?;
    (code == INSUFFICIENT_PRIVILEGE).then(|| {
        StorageError::Invalid(Invalid::new(
            "MIGRATE_AT_START",
            "true, for a database role that may not change the schema",
            "false, and `llm-bench migrate` run with the role of the schema's owner",
        ))
        .into()
    })
}
