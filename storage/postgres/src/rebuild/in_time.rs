use std::time::Duration;

use async_trait::async_trait;
use shared_types::BatchId;
use storage::{
    Hour,
    fold::{RowKey, RowState},
    rebuild::{Begun, CountedBatch, Place, RebuildSession, Swapped},
};

use crate::{RebuildLimits, connection::in_time, fault::SqlError, settings::GRACE};

/// A session whose steps have a deadline, a little after the server's own: a server that is frozen or cut off ends
/// nothing.
pub(super) struct InTime<S> {
    pub(super) session: S,
    pub(super) limits: RebuildLimits,
}

impl<S> InTime<S> {
    fn of_a_page(&self) -> Duration {
        self.limits.page + GRACE
    }

    fn of_tables(&self) -> Duration {
        self.limits.table + GRACE
    }
}

#[async_trait]
impl<S: RebuildSession<Error = SqlError>> RebuildSession for InTime<S> {
    type Error = SqlError;

    async fn begin(&mut self) -> Result<Begun, SqlError> {
        in_time(self.of_tables(), self.session.begin()).await
    }

    async fn page(
        &mut self,
        from: Hour,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Vec<CountedBatch>, SqlError> {
        in_time(self.of_a_page(), self.session.page(from, after, limit)).await
    }

    async fn counted_since(&mut self) -> Result<Vec<BatchId>, SqlError> {
        in_time(self.of_a_page(), self.session.counted_since()).await
    }

    async fn load(&mut self, ids: &[BatchId]) -> Result<Vec<CountedBatch>, SqlError> {
        in_time(self.of_a_page(), self.session.load(ids)).await
    }

    async fn rows(
        &mut self,
        before: Hour,
        after: Option<RowKey>,
        limit: u32,
    ) -> Result<Vec<RowState>, SqlError> {
        in_time(self.of_a_page(), self.session.rows(before, after, limit)).await
    }

    async fn kept(&mut self, rows: &[RowKey]) -> Result<Vec<(RowKey, Vec<u8>)>, SqlError> {
        in_time(self.of_a_page(), self.session.kept(rows)).await
    }

    async fn keep(&mut self, rows: &[RowState]) -> Result<(), SqlError> {
        in_time(self.of_a_page(), self.session.keep(rows)).await
    }

    /// Waits for its turn for as long as others take, each statement with a deadline of its own.
    async fn exclude_consumers(&mut self) -> Result<Hour, SqlError> {
        self.session.exclude_consumers().await
    }

    async fn are_all(&mut self, from: Hour, batches: u64) -> Result<bool, SqlError> {
        in_time(self.of_tables(), self.session.are_all(from, batches)).await
    }

    async fn swap(&mut self, from: Hour) -> Result<Swapped, SqlError> {
        in_time(self.of_tables(), self.session.swap(from)).await
    }
}
