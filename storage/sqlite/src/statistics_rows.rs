//! Rows of `statistics`, out.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use storage::{
    Hour, Period,
    columns::{self, RowKeyColumns},
    fold::{RowKey, RowState},
};

use crate::fault::SqlError;

/// The next rows of periods before `before`, all time included, in the order of the primary key.
pub(crate) async fn rows(
    connection: &mut SqliteConnection,
    before: Hour,
    after: Option<RowKey>,
    limit: u32,
) -> Result<Vec<RowState>, SqlError> {
    let after = RowKeyColumns::after(after);
    sqlx::query(
        "SELECT llm_id, metric_id, source, period, state, n FROM statistics
         WHERE (llm_id, metric_id, source, period) > ($1, $2, $3, $4) AND period < $5
         ORDER BY llm_id, metric_id, source, period
         LIMIT $6",
    )
    .bind(after.llm_id)
    .bind(after.metric_id)
    .bind(after.source)
    .bind(after.period)
    .bind(before.0)
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
    .bind(from.0.max(Period::FIRST_HOUR.0))
    .bind(until.0)
    .fetch_all(connection)
    .await?
    .iter()
    .map(row_state)
    .collect()
}

fn row_key(row: &SqliteRow) -> Result<RowKey, SqlError> {
    Ok(columns::row_key(
        row.try_get("llm_id")?,
        row.try_get("metric_id")?,
        row.try_get("source")?,
        row.try_get("period")?,
    )?)
}

fn row_state(row: &SqliteRow) -> Result<RowState, SqlError> {
    Ok(RowState {
        row: row_key(row)?,
        state: row.try_get("state")?,
        n: row.try_get("n")?,
    })
}
