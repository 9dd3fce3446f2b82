//! The transactions in which statistics are recomputed.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use storage::{Audit, Hour, RebuildReport};
use storage_sql::{
    SqlError, audit,
    counted_batches::{BatchPosition, CountedBatch},
    rebuild::{self, RebuildTransaction},
    recomputation::StatisticsReader,
    statistics_rows::{RowKey, RowState},
};

use crate::{SqliteStorage, counted_batches, retention, statistics_rows};

impl SqliteStorage {
    /// In a read transaction, which sees one state of the database.
    pub(crate) async fn audit_once(&self, from: Option<Hour>, batches: u64) -> Result<Audit, SqlError> {
        let mut transaction = self.readers.begin().await?;
        let mut recomputation = Recomputation {
            connection: &mut transaction,
            now: self.now(),
        };
        let audit = audit::run(&mut recomputation, from, batches).await?;
        transaction.commit().await?;
        Ok(audit)
    }

    /// In a write transaction: whoever else writes waits.
    pub(crate) async fn rebuild_once(
        &self,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<RebuildReport, SqlError> {
        let mut transaction = self.begin().await?;
        let retained_from = retention::retained_from(&mut transaction).await?;
        let counted = counted_batches::count(&mut transaction, retained_from).await?;
        let mut recomputation = Recomputation {
            connection: &mut transaction,
            now: self.now(),
        };
        let report = rebuild::run(&mut recomputation, counted, progress).await?;
        transaction.commit().await?;
        Ok(report)
    }
}

/// A connection with an open transaction, and the time at which it takes place.
struct Recomputation<'c> {
    connection: &'c mut SqliteConnection,
    now: DateTime<Utc>,
}

#[async_trait]
impl StatisticsReader for Recomputation<'_> {
    async fn retained_from(&mut self) -> Result<Hour, SqlError> {
        retention::retained_from(self.connection).await
    }

    async fn page(
        &mut self,
        from: Hour,
        after: Option<BatchPosition>,
        limit: u32,
    ) -> Result<Vec<CountedBatch>, SqlError> {
        counted_batches::page(self.connection, from, after, limit).await
    }

    async fn hours(&mut self, from: Hour, until: Hour) -> Result<Vec<RowState>, SqlError> {
        statistics_rows::hours(self.connection, from, until).await
    }

    async fn rows(&mut self, after: Option<RowKey>, limit: u32) -> Result<Vec<RowState>, SqlError> {
        statistics_rows::rows(self.connection, after, limit).await
    }
}

#[async_trait]
impl RebuildTransaction for Recomputation<'_> {
    async fn start_generation(&mut self) -> Result<(), SqlError> {
        sqlx::query("UPDATE statistics_revision SET generation = generation + 1, revision = revision + 1")
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }

    async fn write(&mut self, rows: &[RowState]) -> Result<(), SqlError> {
        statistics_rows::write(self.connection, rows, self.now).await
    }

    async fn delete(&mut self, rows: &[RowKey]) -> Result<(), SqlError> {
        statistics_rows::delete(self.connection, rows).await
    }
}
