use async_trait::async_trait;
use shared_types::{BatchId, LlmName, MetricTitle, Source};
use storage::{BatchArchive, BatchCursor, BatchFilter, BatchPage, Result, StoredBatch};

use crate::{
    PostgresStorage,
    batch_rows::{select_batches, stored_batch},
};

#[async_trait]
impl BatchArchive for PostgresStorage {
    async fn batch(&self, id: BatchId) -> Result<Option<StoredBatch>> {
        self.retrying("read a batch", async || {
            let row = sqlx::query(select_batches!("WHERE b.id = $1"))
                .bind(id.as_uuid())
                .fetch_optional(&self.pool)
                .await?;
            row.as_ref().map(stored_batch).transpose()
        })
        .await
    }

    async fn batches(
        &self,
        filter: &BatchFilter,
        after: Option<BatchCursor>,
        limit: u32,
    ) -> Result<BatchPage> {
        self.retrying("list batches", async || {
            // One row more than asked for tells whether there is another page. Without a cursor the page starts
            // at the end of time: a condition that may be absent could not use the index.
            let rows = sqlx::query(select_batches!(
                "WHERE (b.batch_at, b.id) < (coalesce($4, 'infinity'::timestamptz),
                                             coalesce($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
                   AND ($1::text IS NULL OR b.llm_id = (SELECT id FROM llms WHERE name = $1))
                   AND ($2::text IS NULL OR b.metric_id = (SELECT id FROM metrics WHERE title = $2))
                   AND ($3::text IS NULL OR b.source = $3)
                 ORDER BY b.batch_at DESC, b.id DESC
                 LIMIT $6"
            ))
            .bind(filter.llm.as_ref().map(LlmName::as_str))
            .bind(filter.metric.as_ref().map(MetricTitle::as_str))
            .bind(filter.source.map(Source::as_str))
            .bind(after.map(|cursor| cursor.timestamp))
            .bind(after.map(|cursor| cursor.id.as_uuid()))
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.pool)
            .await?;
            let batches = rows
                .iter()
                .map(stored_batch)
                .collect::<std::result::Result<_, _>>()?;
            Ok(BatchPage::cut(batches, limit))
        })
        .await
    }
}
