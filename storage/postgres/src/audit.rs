use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;
use storage::{
    Audit, Hour,
    audit::{self, AuditTransaction},
    fold::{RowKey, RowState},
    rebuild::{CountedBatch, Place},
};

use crate::{
    PostgresStorage, connection::in_time, fault::SqlError, ledger_pages, retention, statistics_rows,
};

impl PostgresStorage {
    pub(crate) async fn audit_once(&self, from: Option<Hour>, batches: u64) -> Result<Audit, SqlError> {
        let patience = self.settings.longest_step();
        let begin = self
            .pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        let mut transaction = in_time(patience, async { Ok(begin.await?) }).await?;
        let mut steps = AuditSteps {
            connection: &mut transaction,
            patience,
        };
        let audit = audit::run(&mut steps, from, batches).await?;
        in_time(patience, async { Ok(transaction.commit().await?) }).await?;
        Ok(audit)
    }
}

/// A connection with an open transaction that sees one snapshot. The whole takes as long as there are data; each
/// statement has a deadline, so that a server that answers nothing is noticed.
struct AuditSteps<'c> {
    connection: &'c mut PgConnection,
    patience: Duration,
}

#[async_trait]
impl AuditTransaction for AuditSteps<'_> {
    type Error = SqlError;

    async fn retained_from(&mut self) -> Result<Hour, SqlError> {
        in_time(self.patience, retention::retained_from(self.connection)).await
    }

    async fn page(
        &mut self,
        from: Hour,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Vec<CountedBatch>, SqlError> {
        let page = ledger_pages::page(self.connection, from, after, limit, None);
        in_time(self.patience, page).await
    }

    async fn hours(&mut self, from: Hour, until: Hour) -> Result<Vec<RowState>, SqlError> {
        let hours = statistics_rows::hours(self.connection, from, until);
        in_time(self.patience, hours).await
    }

    async fn rows(&mut self, after: Option<RowKey>, limit: u32) -> Result<Vec<RowState>, SqlError> {
        let rows = statistics_rows::rows(self.connection, Hour(i64::MAX), after, limit);
        in_time(self.patience, rows).await
    }
}
