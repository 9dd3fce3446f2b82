use async_trait::async_trait;
use shared_types::{BatchId, LlmName, MetricTitle, Source};
use storage::{BatchArchive, BatchCursor, BatchFilter, BatchPage, Result, StoredBatch};
use storage_sql::columns::batch_page;
use uuid::Uuid;

use crate::{
    SqliteStorage,
    batch_rows::{batch_columns, select_batches, stored_batch},
    time_columns::to_column,
};

/// CROSS JOIN keeps the order of the tables, so that the index gives the order of the rows.
const PAGE: &str = concat!(
    "SELECT ",
    batch_columns!(),
    "
     FROM batches b CROSS JOIN llms l CROSS JOIN metrics m
     WHERE l.id = b.llm_id AND m.id = b.metric_id AND (b.batch_at, b.id) < ($1, $2)
     ORDER BY b.batch_at DESC, b.id DESC
     LIMIT $3"
);

/// Along the index of time alone, a rare LLM's page would be looked for in the whole history. There are few keys, and
/// each is asked for its newest batches; the values are read of those only that are on the page.
const FILTERED_PAGE: &str = concat!(
    "WITH sources (source) AS (VALUES ('simulated'), ('measured'), ('imported')),
     page AS MATERIALIZED (
         SELECT b.id
         FROM llms l CROSS JOIN metrics m CROSS JOIN sources s CROSS JOIN batches b
         WHERE ($4 IS NULL OR l.name = $4) AND ($5 IS NULL OR m.title = $5) AND ($6 IS NULL OR s.source = $6)
           AND b.id IN (
               SELECT newest.id FROM batches newest
               WHERE newest.llm_id = l.id AND newest.metric_id = m.id AND newest.source = s.source
                 AND (newest.batch_at, newest.id) < ($1, $2)
               ORDER BY newest.batch_at DESC, newest.id DESC
               LIMIT $3
           )
         ORDER BY b.batch_at DESC, b.id DESC
         LIMIT $3
     )
     SELECT ",
    batch_columns!(),
    "
     FROM page CROSS JOIN batches b CROSS JOIN llms l CROSS JOIN metrics m
     WHERE b.id = page.id AND l.id = b.llm_id AND m.id = b.metric_id
     ORDER BY b.batch_at DESC, b.id DESC"
);

#[async_trait]
impl BatchArchive for SqliteStorage {
    async fn batch(&self, id: BatchId) -> Result<Option<StoredBatch>> {
        self.run("read a batch", async || {
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
        let is_filtered = *filter != BatchFilter::default();
        self.run("list batches", async || {
            let mut page = sqlx::query(if is_filtered { FILTERED_PAGE } else { PAGE })
                .bind(after.map_or(i64::MAX, |cursor| to_column(cursor.timestamp)))
                .bind(after.map_or(Uuid::max(), |cursor| cursor.id.as_uuid()))
                // One row more than asked for tells whether there is another page.
                .bind(i64::from(limit) + 1);
            if is_filtered {
                page = page
                    .bind(filter.llm.as_ref().map(LlmName::as_str))
                    .bind(filter.metric.as_ref().map(MetricTitle::as_str))
                    .bind(filter.source.map(Source::as_str));
            }
            let batches = page
                .fetch_all(&self.readers)
                .await?
                .iter()
                .map(stored_batch)
                .collect::<std::result::Result<_, _>>()?;
            Ok(batch_page(batches, limit))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared_types::SystemClock;
    use sqlx::{AssertSqlSafe, Row};
    use storage::{BoxError, Maintenance};

    use super::*;
    use crate::Location;

    #[tokio::test]
    async fn a_rare_llm_is_found_without_its_neighbours() -> std::result::Result<(), BoxError> {
        let storage = SqliteStorage::open(Location::Ephemeral, Arc::new(SystemClock))?;
        storage.migrate().await?;
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {FILTERED_PAGE}")))
            .fetch_all(&storage.readers)
            .await?
            .iter()
            .map(|row| row.try_get("detail"))
            .collect::<sqlx::Result<Vec<String>>>()?;
        // Besides the page's own batches, which are read by id, nothing but the newest of each key.
        let of_key = "(llm_id=? AND metric_id=? AND source=? AND (batch_at,id)<(?,?))";
        let batches: Vec<&String> = plan
            .iter()
            .filter(|step| step.contains(" b ") || step.contains(" newest "))
            .collect();
        assert_eq!(batches.len(), 3, "{plan:#?}");
        for step in batches {
            let expected = if step.contains(" newest ") {
                of_key
            } else {
                "(id=?)"
            };
            assert!(
                step.starts_with("SEARCH") && step.ends_with(expected),
                "{plan:#?}"
            );
        }
        Ok(())
    }
}
