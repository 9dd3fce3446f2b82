use async_trait::async_trait;
use sqlx::SqliteConnection;
use storage::{DatabaseInfo, Maintenance, Result};
use storage_sql::SqlError;

use crate::{SqliteStorage, migrations::MIGRATIONS};

#[async_trait]
impl Maintenance for SqliteStorage {
    async fn migrate(&self) -> Result<u32> {
        self.run("migrate", async || {
            // The driver has no lock for SQLite; a write transaction around all of it is one, also among processes.
            let mut transaction = self.begin().await?;
            let before = applied(&mut transaction).await?;
            MIGRATIONS.run_direct(None, &mut *transaction, false).await?;
            let after = applied(&mut transaction).await?;
            transaction.commit().await?;
            Ok(after - before)
        })
        .await
    }

    async fn database_info(&self) -> Result<DatabaseInfo> {
        self.run("read the database's version", async || {
            let mut connection = self.readers.acquire().await?;
            let version: String = sqlx::query_scalar("SELECT sqlite_version()")
                .fetch_one(&mut *connection)
                .await?;
            let applied = applied(&mut connection).await?;
            let all = u32::try_from(MIGRATIONS.iter().count()).unwrap_or(u32::MAX);
            Ok(DatabaseInfo {
                version: format!("SQLite {version}"),
                applied_migrations: applied,
                pending_migrations: all.saturating_sub(applied),
            })
        })
        .await
    }

    async fn ping(&self) -> Result<()> {
        self.run("ping", async || {
            // Reads the file, unlike SELECT 1.
            sqlx::query("SELECT count(*) FROM sqlite_schema")
                .execute(&self.readers)
                .await?;
            Ok(())
        })
        .await
    }

    async fn close(&self) {
        self.readers.close().await;
        // The last connection writes the log back into the file.
        self.writer.close().await;
    }
}

async fn applied(connection: &mut SqliteConnection) -> std::result::Result<u32, SqlError> {
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')")
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
