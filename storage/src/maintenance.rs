use std::time::Duration;

use async_trait::async_trait;

use crate::Result;

/// What `llm-bench doctor` wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Name and version of the server or library, such as `PostgreSQL 15.18`.
    pub version: String,
    /// Migrations that are applied.
    pub applied_migrations: u32,
    /// Migrations that this program has and the database lacks.
    pub pending_migrations: u32,
}

/// The schema, and whether the database is there at all.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Applies the migrations that are missing, under a lock, so that services may start together; gives how many
    /// were applied.
    ///
    /// # Errors
    /// `Fault` where an applied migration differs from this program's, or is unknown to it.
    async fn migrate(&self) -> Result<u32>;

    /// Version and schema.
    async fn database_info(&self) -> Result<DatabaseInfo>;

    /// Whether a trivial query is answered now. Never retried.
    async fn ping(&self) -> Result<()>;

    /// Closes the connections, waiting for those in use.
    async fn close(&self);
}

/// Brings the schema up to date, waiting for a database that is away.
///
/// # Errors
/// The database is there and refuses.
pub async fn migrated(storage: &dyn Maintenance) -> Result<()> {
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        match storage.migrate().await {
            Ok(0) => return Ok(()),
            Ok(applied) => {
                tracing::info!(schema.applied = applied, "migrated");
                return Ok(());
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(error = &error as &dyn std::error::Error, "waiting for the database");
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
