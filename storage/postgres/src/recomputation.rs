//! The transactions in which statistics are recomputed.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;
use storage::{Audit, Hour};
use storage_sql::{
    SqlError, audit,
    counted_batches::{BatchPosition, CountedBatch},
    recomputation::StatisticsReader,
    statistics_rows::{RowKey, RowState},
};

use crate::{PostgresStorage, connection::in_time, counted_batches, retention, statistics_rows};

impl PostgresStorage {
    pub(crate) async fn audit_once(&self, from: Option<Hour>, batches: u64) -> Result<Audit, SqlError> {
        let deadline = self.settings.longest_operation();
        // Everything is read from one snapshot.
        let begin = self
            .pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        let mut transaction = in_time(deadline, async { Ok(begin.await?) }).await?;
        let mut recomputation = Recomputation {
            connection: &mut transaction,
            deadline,
        };
        let audit = audit::run(&mut recomputation, from, batches).await?;
        in_time(deadline, async { Ok(transaction.commit().await?) }).await?;
        Ok(audit)
    }
}

/// A connection with an open transaction. The whole takes as long as there are data; each statement has a deadline, so
/// that a server that answers nothing is noticed.
pub(crate) struct Recomputation<'c> {
    pub(crate) connection: &'c mut PgConnection,
    pub(crate) deadline: Duration,
}

#[async_trait]
impl StatisticsReader for Recomputation<'_> {
    async fn retained_from(&mut self) -> Result<Hour, SqlError> {
        in_time(self.deadline, retention::retained_from(self.connection)).await
    }

    async fn page(
        &mut self,
        from: Hour,
        after: Option<BatchPosition>,
        limit: u32,
    ) -> Result<Vec<CountedBatch>, SqlError> {
        let page = counted_batches::page(self.connection, from, after, limit);
        in_time(self.deadline, page).await
    }

    async fn hours(&mut self, from: Hour, until: Hour) -> Result<Vec<RowState>, SqlError> {
        let hours = statistics_rows::hours(self.connection, from, until);
        in_time(self.deadline, hours).await
    }

    async fn rows(&mut self, after: Option<RowKey>, limit: u32) -> Result<Vec<RowState>, SqlError> {
        in_time(
            self.deadline,
            statistics_rows::rows(self.connection, after, limit),
        )
        .await
    }
}
