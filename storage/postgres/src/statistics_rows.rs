//! Rows of `statistics`, in and out.

use shared_types::Source;
use sqlx::{PgConnection, Row, postgres::PgRow};
use storage::{Hour, StatisticsRow};
use storage_sql::{
    SqlError,
    columns::{self, FIRST_HOUR, RowKeyColumns, statistics_key, statistics_row},
    statistics_rows::{RowKey, RowState},
};

/// The next rows in the order of the primary key.
pub(crate) async fn rows(
    connection: &mut PgConnection,
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
/// `OFFSET 0` keeps the planner from another order.
pub(crate) async fn hours(
    connection: &mut PgConnection,
    from: Hour,
    until: Hour,
) -> Result<Vec<RowState>, SqlError> {
    sqlx::query(
        "SELECT s.llm_id, s.metric_id, s.source, s.period, s.state, s.n
         FROM llms l CROSS JOIN metrics m CROSS JOIN unnest($1::text[]) AS given (source)
         CROSS JOIN LATERAL (
             SELECT * FROM statistics s
             WHERE s.llm_id = l.id AND s.metric_id = m.id AND s.source = given.source
               AND s.period >= $2 AND s.period < $3
             OFFSET 0
         ) s",
    )
    .bind(Source::ALL.map(Source::as_str).as_slice())
    .bind(from.0.max(FIRST_HOUR.0))
    .bind(until.0)
    .fetch_all(connection)
    .await?
    .iter()
    .map(row_state)
    .collect()
}

/// Writes rows in place of those under their keys, if any.
pub(crate) async fn write(connection: &mut PgConnection, rows: &[RowState]) -> Result<(), SqlError> {
    let keys = KeyColumns::of(rows.iter().map(|row| &row.row));
    sqlx::query(
        "INSERT INTO statistics (llm_id, metric_id, source, period, state, n)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[], $6::bigint[])
         ON CONFLICT (llm_id, metric_id, source, period) DO UPDATE
             SET state = excluded.state, n = excluded.n, revision = excluded.revision,
                 updated_at = excluded.updated_at",
    )
    .bind(keys.llms)
    .bind(keys.metrics)
    .bind(keys.sources)
    .bind(keys.periods)
    .bind(rows.iter().map(|row| row.state.as_slice()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.n).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn delete(connection: &mut PgConnection, rows: &[RowKey]) -> Result<(), SqlError> {
    let keys = KeyColumns::of(rows.iter());
    sqlx::query(
        "DELETE FROM statistics WHERE (llm_id, metric_id, source, period) IN (
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]))",
    )
    .bind(keys.llms)
    .bind(keys.metrics)
    .bind(keys.sources)
    .bind(keys.periods)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) fn row_key(row: &PgRow) -> Result<RowKey, SqlError> {
    columns::row_key(
        row.try_get("llm_id")?,
        row.try_get("metric_id")?,
        row.try_get("source")?,
        row.try_get("period")?,
    )
}

fn row_state(row: &PgRow) -> Result<RowState, SqlError> {
    Ok(RowState {
        row: row_key(row)?,
        state: row.try_get("state")?,
        n: row.try_get("n")?,
    })
}

/// The keys of statistics rows as one array per column.
#[derive(Default)]
pub(crate) struct KeyColumns {
    pub(crate) llms: Vec<i64>,
    pub(crate) metrics: Vec<i64>,
    pub(crate) sources: Vec<&'static str>,
    pub(crate) periods: Vec<i64>,
}

impl KeyColumns {
    pub(crate) fn of<'a>(rows: impl Iterator<Item = &'a RowKey>) -> Self {
        let mut columns = Self::default();
        for row in rows.copied().map(RowKeyColumns::from) {
            columns.llms.push(row.llm_id);
            columns.metrics.push(row.metric_id);
            columns.sources.push(row.source);
            columns.periods.push(row.period);
        }
        columns
    }
}

/// A row of the statistics with its key.
pub(crate) fn decode(row: &PgRow) -> Result<StatisticsRow, SqlError> {
    let key = statistics_key(
        row.try_get("llm_id")?,
        row.try_get("metric_id")?,
        row.try_get("source")?,
    )?;
    Ok(statistics_row(
        key,
        row.try_get("period")?,
        row.try_get("state")?,
        row.try_get("updated_at")?,
    ))
}
