//! Reading what changed, without missing a change that was committed late.
//!
//! A sequence number or a timestamp will not do as the reader's position: it is taken when a row is written, and a
//! transaction that took a low one may commit after the reader has seen a high one. Transaction ids have the same
//! gap, but PostgreSQL says how wide it is. Each row carries the id of the transaction that wrote it. Every
//! transaction below `pg_snapshot_xmin` of a snapshot is visible to it or rolled back; so a reader that has seen a
//! snapshot and then asks for all rows written by its xmin or later gets every row that it has not seen, and some
//! that it has. The next position is taken from the snapshot of the very statement that reads the rows.

use sqlx::Row;
use storage::{Hour, Revision, StatisticsChange};
use storage_sql::{SqlError, columns::ALL_TIME};

use crate::{PostgresStorage, statistics_rows};

/// One row at least, with the position; NULLs where no statistics go with it.
const CHANGES: &str = "
    SELECT g.generation, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS position,
           s.llm_id, s.metric_id, s.source, s.period, s.state, s.updated_at
    FROM statistics_generation g
    LEFT JOIN statistics s ON s.revision >= $1::text::xid8 AND (s.period = $2 OR s.period >= $3)";

/// No transaction has a smaller id.
const EVERYTHING: i64 = 0;

impl PostgresStorage {
    pub(crate) async fn changes(
        &self,
        since: Option<Revision>,
        horizon: Hour,
    ) -> Result<StatisticsChange, SqlError> {
        if let Some(since) = since {
            let change = self.rows_from(since.position, horizon).await?;
            if change.revision.follows(since) {
                return Ok(change);
            }
        }
        let everything = self.rows_from(EVERYTHING, horizon).await?;
        Ok(StatisticsChange {
            complete: true,
            ..everything
        })
    }

    async fn rows_from(&self, position: i64, horizon: Hour) -> Result<StatisticsChange, SqlError> {
        let rows = sqlx::query(CHANGES)
            .bind(position.to_string())
            .bind(ALL_TIME)
            .bind(horizon.0)
            .fetch_all(&self.pool)
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
                .map(statistics_rows::decode)
                .collect::<Result<_, _>>()?,
        })
    }
}
