use async_trait::async_trait;
use shared_types::{BatchId, LlmName, MetricTitle, Source};
use storage::{BatchArchive, BatchCursor, BatchFilter, BatchPage, Result, StoredBatch};
use uuid::Uuid;

use crate::{
    SqliteStorage,
    batch_rows::{batch_columns, select_batches, stored_batch},
    time_columns::to_column,
};

#[async_trait]
impl BatchArchive for SqliteStorage {
    async fn batch(&self, id: BatchId) -> Result<Option<StoredBatch>> {
        self.step("read a batch", async || {
            let row = sqlx::query(select_batches!("WHERE b.id = $1"))
                .bind(id.as_uuid())
                .fetch_optional(&self.readers)
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
        self.step("list batches", async || {
            // One row more than asked for tells whether there is another page. CROSS JOIN keeps the order of the
            // tables, so that the index gives the order of the rows.
            let rows = sqlx::query(concat!(
                "SELECT ",
                batch_columns!(),
                "
                 FROM batches b CROSS JOIN llms l CROSS JOIN metrics m
                 WHERE l.id = b.llm_id AND m.id = b.metric_id
                   AND (b.batch_at, b.id) < ($4, $5)
                   AND ($1 IS NULL OR b.llm_id = (SELECT id FROM llms WHERE name = $1))
                   AND ($2 IS NULL OR b.metric_id = (SELECT id FROM metrics WHERE title = $2))
                   AND ($3 IS NULL OR b.source = $3)
                 ORDER BY b.batch_at DESC, b.id DESC
                 LIMIT $6"
            ))
            .bind(filter.llm.as_ref().map(LlmName::as_str))
            .bind(filter.metric.as_ref().map(MetricTitle::as_str))
            .bind(filter.source.map(Source::as_str))
            .bind(after.map_or(i64::MAX, |cursor| to_column(cursor.timestamp)))
            .bind(after.map_or(Uuid::max(), |cursor| cursor.id.as_uuid()))
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.readers)
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
