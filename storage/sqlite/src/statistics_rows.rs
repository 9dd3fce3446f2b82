//! Rows of `statistics`, in and out.

use chrono::{DateTime, Utc};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use storage::Hour;
use storage_sql::{
    SqlError,
    columns::{self, FIRST_HOUR, RowKeyColumns},
    statistics_rows::{RowKey, RowState},
};

use crate::time_columns::to_column;

/// The next rows in the order of the primary key.
pub(crate) async fn rows(
    connection: &mut SqliteConnection,
    after: Option<RowKey>,
    limit: u32,
) -> Result<Vec<RowState>, SqlError> {
    let after = RowKeyColumns::after(after);
    sqlx::query(
        "SELECT llm_id, metric_id, source, period, state, n FROM statistics
         WHERE (llm_id, metric_id, source, period) > ($1, $2, $3, $4)
         ORDER BY llm_id, metric_id, source, period
         LIMIT $5",
    )
    .bind(after.llm_id)
    .bind(after.metric_id)
    .bind(after.source)
    .bind(after.period)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?
    .iter()
    .map(row_state)
    .collect()
}

/// The rows of some hours. No index starts with the period; but there are few keys, and each is asked for its hours.
/// CROSS JOIN keeps the order of the tables.
pub(crate) async fn hours(
    connection: &mut SqliteConnection,
    from: Hour,
    until: Hour,
) -> Result<Vec<RowState>, SqlError> {
    sqlx::query(
        "WITH sources (source) AS (VALUES ('simulated'), ('measured'), ('imported'))
         SELECT s.llm_id, s.metric_id, s.source, s.period, s.state, s.n
         FROM llms l CROSS JOIN metrics m CROSS JOIN sources CROSS JOIN statistics s
         WHERE s.llm_id = l.id AND s.metric_id = m.id AND s.source = sources.source
           AND s.period >= $1 AND s.period < $2",
    )
    .bind(from.0.max(FIRST_HOUR.0))
    .bind(until.0)
    .fetch_all(connection)
    .await?
    .iter()
    .map(row_state)
    .collect()
}

/// Writes rows of the current revision in place of those under their keys, if any.
pub(crate) async fn write(
    connection: &mut SqliteConnection,
    rows: &[RowState],
    now: DateTime<Utc>,
) -> Result<(), SqlError> {
    for row in rows {
        let key = RowKeyColumns::from(row.row);
        sqlx::query(
            "INSERT INTO statistics (llm_id, metric_id, source, period, state, n, revision, updated_at)
             SELECT $1, $2, $3, $4, $5, $6, revision, $7 FROM statistics_revision WHERE true
             ON CONFLICT (llm_id, metric_id, source, period) DO UPDATE
                 SET state = excluded.state, n = excluded.n, revision = excluded.revision,
                     updated_at = excluded.updated_at",
        )
        .bind(key.llm_id)
        .bind(key.metric_id)
        .bind(key.source)
        .bind(key.period)
        .bind(row.state.as_slice())
        .bind(row.n)
        .bind(to_column(now))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

pub(crate) async fn delete(connection: &mut SqliteConnection, rows: &[RowKey]) -> Result<(), SqlError> {
    for row in rows {
        let key = RowKeyColumns::from(*row);
        sqlx::query(
            "DELETE FROM statistics WHERE llm_id = $1 AND metric_id = $2 AND source = $3 AND period = $4",
        )
        .bind(key.llm_id)
        .bind(key.metric_id)
        .bind(key.source)
        .bind(key.period)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

fn row_key(row: &SqliteRow) -> Result<RowKey, SqlError> {
    columns::row_key(
        row.try_get("llm_id")?,
        row.try_get("metric_id")?,
        row.try_get("source")?,
        row.try_get("period")?,
    )
}

fn row_state(row: &SqliteRow) -> Result<RowState, SqlError> {
    Ok(RowState {
        row: row_key(row)?,
        state: row.try_get("state")?,
        n: row.try_get("n")?,
    })
}
