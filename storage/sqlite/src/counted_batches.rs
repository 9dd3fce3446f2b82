//! Batches of the ledger, page by page.

use shared_types::BatchId;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use storage::Hour;
use storage_sql::{
    SqlError,
    columns::statistics_key,
    counted_batches::{BatchPosition, CountedBatch},
};
use uuid::Uuid;

use crate::{
    batch_rows::decode_values,
    time_columns::{from_column, start_of, to_column},
};

/// The next batches from this hour on, oldest first.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    from: Hour,
    after: Option<BatchPosition>,
    limit: u32,
) -> Result<Vec<CountedBatch>, SqlError> {
    // Without a position to go on from, the page starts behind the last batch that the hour before can have: timestamps
    // are whole microseconds, and an id may be any UUID, the nil one included.
    sqlx::query(
        "SELECT b.id, b.llm_id, b.metric_id, b.source, b.batch_at, b.data_points
         FROM batches b CROSS JOIN ledger l
         WHERE l.batch_id = b.id AND (b.batch_at, b.id) > ($1, $2)
         ORDER BY b.batch_at, b.id
         LIMIT $3",
    )
    .bind(after.map_or_else(
        || start_of(from).saturating_sub(1),
        |position| to_column(position.timestamp),
    ))
    .bind(after.map_or(Uuid::max(), |position| position.id.as_uuid()))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?
    .iter()
    .map(decode)
    .collect()
}

/// How many there are from this hour on.
pub(crate) async fn count(connection: &mut SqliteConnection, from: Hour) -> Result<u64, SqlError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM ledger l JOIN batches b ON b.id = l.batch_id WHERE b.batch_at >= $1",
    )
    .bind(start_of(from))
    .fetch_one(connection)
    .await?;
    Ok(count.cast_unsigned())
}

fn decode(row: &SqliteRow) -> Result<CountedBatch, SqlError> {
    Ok(CountedBatch {
        position: BatchPosition {
            timestamp: from_column(row.try_get("batch_at")?)?,
            id: BatchId::from(row.try_get::<Uuid, _>("id")?),
        },
        key: statistics_key(
            row.try_get("llm_id")?,
            row.try_get("metric_id")?,
            row.try_get("source")?,
        )?,
        values: decode_values(row.try_get("data_points")?)?,
    })
}
