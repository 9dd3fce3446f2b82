use async_trait::async_trait;
use shared_types::{BatchId, LlmName, MetricTitle, Source};
use storage::{BatchArchive, BatchCursor, BatchFilter, BatchPage, Result, StoredBatch};
use storage_sql::columns::batch_page;

use crate::{
    PostgresStorage,
    batch_rows::{batch_columns, select_batches, stored_batch},
};

/// Without a cursor the page starts at the end of time: a condition that may be absent could not use the index.
const PAGE: &str = select_batches!(
    "WHERE (b.batch_at, b.id) < (coalesce($1, 'infinity'::timestamptz),
                                 coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
     ORDER BY b.batch_at DESC, b.id DESC
     LIMIT $3"
);

/// Along the index of time alone, a rare LLM's page would be looked for in the whole history. There are few keys, and
/// each is asked for its newest batches; the values are read of those only that are on the page.
const FILTERED_PAGE: &str = concat!(
    "WITH page AS MATERIALIZED (
         SELECT newest.id
         FROM llms l CROSS JOIN metrics m CROSS JOIN unnest($6::text[]) AS given (source)
         CROSS JOIN LATERAL (
             SELECT b.id, b.batch_at FROM batches b
             WHERE b.llm_id = l.id AND b.metric_id = m.id AND b.source = given.source
               AND (b.batch_at, b.id) < (coalesce($1, 'infinity'::timestamptz),
                                         coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
             ORDER BY b.batch_at DESC, b.id DESC
             LIMIT $3
         ) newest
         WHERE ($4::text IS NULL OR l.name = $4) AND ($5::text IS NULL OR m.title = $5)
         ORDER BY newest.batch_at DESC, newest.id DESC
         LIMIT $3
     )
     SELECT ",
    batch_columns!(),
    "
     FROM page JOIN batches b ON b.id = page.id JOIN llms l ON l.id = b.llm_id JOIN metrics m ON m.id = b.metric_id
     ORDER BY b.batch_at DESC, b.id DESC"
);

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
        let is_filtered = *filter != BatchFilter::default();
        self.retrying("list batches", async || {
            let mut page = sqlx::query(if is_filtered { FILTERED_PAGE } else { PAGE })
                .bind(after.map(|cursor| cursor.timestamp))
                .bind(after.map(|cursor| cursor.id.as_uuid()))
                // One row more than asked for tells whether there is another page.
                .bind(i64::from(limit) + 1);
            if is_filtered {
                page = page
                    .bind(filter.llm.as_ref().map(LlmName::as_str))
                    .bind(filter.metric.as_ref().map(MetricTitle::as_str))
                    .bind(sources(filter));
            }
            let batches = page
                .fetch_all(&self.pool)
                .await?
                .iter()
                .map(stored_batch)
                .collect::<std::result::Result<_, _>>()?;
            Ok(batch_page(batches, limit))
        })
        .await
    }
}

fn sources(filter: &BatchFilter) -> Vec<&'static str> {
    let all = Source::ALL.into_iter();
    all.filter(|source| filter.source.is_none_or(|wanted| wanted == *source))
        .map(Source::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use shared_types::RegistrySeed;
    use sqlx::AssertSqlSafe;
    use storage::{BoxError, Maintenance, Outbox, Registry};
    use storage_conformance::samples::batches;
    use test_servers::shared_postgres;

    use super::*;
    use crate::PostgresSettings;

    #[tokio::test]
    async fn a_rare_llm_is_found_without_its_neighbours() -> std::result::Result<(), BoxError> {
        let url = shared_postgres().await.create_database().await?;
        let storage = PostgresStorage::connect(PostgresSettings::from_url(&url)?);
        storage.migrate().await?;
        storage
            .seed(&RegistrySeed::standard()?, DateTime::UNIX_EPOCH)
            .await?;
        let rare = batches(0..1)?.remove(0);
        storage.record(std::slice::from_ref(&rare)).await?;
        sqlx::query(
            "INSERT INTO batches (id, llm_id, metric_id, source, batch_at, data_points, checksum)
             SELECT gen_random_uuid(), l.id, metric_id, source, batch_at + n * interval '1 second', '{1}', checksum
             FROM batches b JOIN llms l ON l.id <> b.llm_id, generate_series(1, 5000) AS given (n)",
        )
        .execute(&storage.pool)
        .await?;
        for statistics in [false, true] {
            if statistics {
                sqlx::query("ANALYZE").execute(&storage.pool).await?;
            }
            let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN {FILTERED_PAGE}")))
                .persistent(false)
                .bind(None::<DateTime<chrono::Utc>>)
                .bind(None::<uuid::Uuid>)
                .bind(17_i64)
                .bind(rare.llm().as_str())
                .bind(None::<&str>)
                .bind(sources(&BatchFilter::default()))
                .fetch_all(&storage.pool)
                .await?;
            let plan = plan.join("\n");
            assert!(plan.contains("batches_by_key"), "{plan}");
            assert!(!plan.contains("batches_newest_first"), "{plan}");
        }
        let filter = BatchFilter {
            llm: Some(rare.llm().clone()),
            ..BatchFilter::default()
        };
        let page = storage.batches(&filter, None, 10).await?;
        assert_eq!(page.batches.len(), 1);
        assert_eq!((&page.batches[0].batch, page.next), (&rare, None));
        Ok(())
    }
}
