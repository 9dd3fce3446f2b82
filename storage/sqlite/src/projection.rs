use async_trait::async_trait;
use shared_types::{MetricBatch, Source};
use sqlx::{Row, sqlite::SqliteRow};
use storage::{
    Applied, HistoryFilter, Hour, Projection, RebuildReport, Result, Revision, StatisticsChange,
    StatisticsRow,
};
use storage_sql::{
    SqlError,
    columns::{ALL_TIME, FIRST_HOUR, statistics_key, statistics_row},
    counting,
};

use crate::{SqliteStorage, batch_transaction::BatchTransaction, time_columns::from_column};

#[async_trait]
impl Projection for SqliteStorage {
    async fn apply(&self, batches: &[MetricBatch]) -> Result<Vec<Applied>> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        self.run("apply batches", async || {
            let mut transaction = self.begin().await?;
            let mut batch_transaction = BatchTransaction {
                connection: &mut transaction,
                now: self.now(),
            };
            let applied = counting::apply(&mut batch_transaction, batches).await?;
            #[cfg(feature = "failpoints")]
            fail::fail_point!("projection::before_commit", |_| std::process::abort());
            transaction.commit().await?;
            Ok(applied)
        })
        .await
    }

    async fn statistics_since(&self, since: Option<Revision>, horizon: Hour) -> Result<StatisticsChange> {
        self.run("read changed statistics", || self.changes(since, horizon))
            .await
    }

    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<StatisticsRow>> {
        self.run("read history", async || {
            sqlx::query(
                "SELECT llm_id, metric_id, source, period, state, updated_at FROM statistics
                 WHERE llm_id = $1 AND metric_id = $2 AND ($3 IS NULL OR source = $3)
                   AND period >= $4 AND period < $5
                 ORDER BY period, CASE source WHEN 'simulated' THEN 1 WHEN 'measured' THEN 2 ELSE 3 END",
            )
            .bind(filter.llm.0)
            .bind(filter.metric.0)
            .bind(filter.source.map(Source::as_str))
            .bind(filter.from.0.max(FIRST_HOUR.0))
            .bind(filter.until.0)
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(decode)
            .collect()
        })
        .await
    }

    async fn rebuild(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<RebuildReport> {
        self.run("rebuild statistics", || self.rebuild_once(progress))
            .await
    }

    async fn counted_batches(&self) -> Result<u64> {
        self.run("count the ledger", async || {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger")
                .fetch_one(&self.readers)
                .await?;
            Ok(count.cast_unsigned())
        })
        .await
    }
}

/// Revisions start at 1.
const EVERYTHING: i64 = 0;

impl SqliteStorage {
    async fn changes(
        &self,
        since: Option<Revision>,
        horizon: Hour,
    ) -> std::result::Result<StatisticsChange, SqlError> {
        if let Some(since) = since {
            let change = self.rows_after(since.position, horizon).await?;
            if change.revision.follows(since) {
                return Ok(change);
            }
        }
        let everything = self.rows_after(EVERYTHING, horizon).await?;
        Ok(StatisticsChange {
            complete: true,
            ..everything
        })
    }

    /// One statement sees one state of the database, so the revision belongs to the rows.
    async fn rows_after(
        &self,
        position: i64,
        horizon: Hour,
    ) -> std::result::Result<StatisticsChange, SqlError> {
        let rows = sqlx::query(
            "SELECT r.generation, r.revision AS position,
                    s.llm_id, s.metric_id, s.source, s.period, s.state, s.updated_at
             FROM statistics_revision r
             LEFT JOIN statistics s ON s.revision > $1 AND (s.period = $2 OR s.period >= $3)",
        )
        .bind(position)
        .bind(ALL_TIME)
        .bind(horizon.0)
        .fetch_all(&self.readers)
        .await?;
        let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(StatisticsChange {
            complete: false,
            revision: Revision {
                generation: first.try_get("generation")?,
                position: first.try_get("position")?,
            },
            rows: rows
                .iter()
                .filter(|row| {
                    row.try_get::<Option<i64>, _>("llm_id")
                        .is_ok_and(|id| id.is_some())
                })
                .map(decode)
                .collect::<std::result::Result<_, _>>()?,
        })
    }
}

fn decode(row: &SqliteRow) -> std::result::Result<StatisticsRow, SqlError> {
    let key = statistics_key(
        row.try_get("llm_id")?,
        row.try_get("metric_id")?,
        row.try_get("source")?,
    )?;
    Ok(statistics_row(
        key,
        row.try_get("period")?,
        row.try_get("state")?,
        from_column(row.try_get("updated_at")?)?,
    ))
}
