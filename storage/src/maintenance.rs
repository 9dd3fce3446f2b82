use async_trait::async_trait;
use shared_types::Invalid;

use crate::{Result, ServiceRole, StorageError};

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

    /// Gives a role of the database the rights that a service needs and no others: it can neither change nor empty
    /// tables.
    /// Repeating it changes nothing; after a migration it covers the new tables.
    ///
    /// # Errors
    /// `Invalid` where there is no such role, where the role owns the schema, and where the database knows no roles.
    async fn grant(&self, role: &str, service: ServiceRole) -> Result<()> {
        Err(StorageError::Invalid(Invalid::new(
            format!("{service} role"),
            role,
            "no role: this database is a file, and knows none",
        )))
    }

    /// Version and schema.
    async fn database_info(&self) -> Result<DatabaseInfo>;

    /// Whether a trivial query is answered now. Never retried.
    async fn ping(&self) -> Result<()>;

    /// Closes the connections, waiting for those in use.
    async fn close(&self);
}
