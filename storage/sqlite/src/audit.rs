use async_trait::async_trait;
use sqlx::SqliteConnection;
use storage::{
    Audit, Hour,
    audit::{self, AuditTransaction},
    fold::{RowKey, RowState},
    rebuild::{CountedBatch, Place},
};

use crate::{SqliteStorage, fault::SqlError, ledger_pages, retention, statistics_rows};

impl SqliteStorage {
    pub(crate) async fn audit_once(&self, from: Option<Hour>, batches: u64) -> Result<Audit, SqlError> {
        let mut transaction = self.readers.begin().await?;
        let audit = audit::run(&mut AuditSteps(&mut transaction), from, batches).await?;
        transaction.commit().await?;
        Ok(audit)
    }
}

/// A connection with an open read transaction, which sees one state of the database.
struct AuditSteps<'c>(&'c mut SqliteConnection);

#[async_trait]
impl AuditTransaction for AuditSteps<'_> {
    type Error = SqlError;

    async fn retained_from(&mut self) -> Result<Hour, SqlError> {
        retention::retained_from(self.0).await
    }

    async fn page(
        &mut self,
        from: Hour,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Vec<CountedBatch>, SqlError> {
        ledger_pages::page(self.0, from, after, limit, i64::MAX).await
    }

    async fn hours(&mut self, from: Hour, until: Hour) -> Result<Vec<RowState>, SqlError> {
        statistics_rows::hours(self.0, from, until).await
    }

    async fn rows(&mut self, after: Option<RowKey>, limit: u32) -> Result<Vec<RowState>, SqlError> {
        statistics_rows::rows(self.0, Hour(i64::MAX), after, limit).await
    }
}
