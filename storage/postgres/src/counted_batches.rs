//! Batches of the ledger, page by page.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};
use storage::Hour;
use storage_sql::{
    SqlError,
    columns::statistics_key,
    counted_batches::{BatchPosition, CountedBatch},
};
use uuid::Uuid;

/// The next batches from this hour on, oldest first.
pub(crate) async fn page(
    connection: &mut PgConnection,
    from: Hour,
    after: Option<BatchPosition>,
    limit: u32,
) -> Result<Vec<CountedBatch>, SqlError> {
    // Without a position to go on from, the page starts behind the last batch that the hour before can have: timestamps
    // are whole microseconds, and an id may be any UUID, the nil one included.
    sqlx::query(
        "SELECT b.id, b.llm_id, b.metric_id, b.source, b.batch_at, b.data_points
         FROM batches b JOIN ledger l ON l.batch_id = b.id
         WHERE (b.batch_at, b.id) > (coalesce($1, $2 - interval '1 microsecond', '-infinity'::timestamptz),
                                     coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
         ORDER BY b.batch_at, b.id
         LIMIT $4",
    )
    .bind(after.map(|position| position.timestamp))
    .bind(start_of(from))
    .bind(after.map(|position| position.id.as_uuid()))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?
    .iter()
    .map(decode)
    .collect()
}

/// How many there are from this hour on.
pub(crate) async fn count(connection: &mut PgConnection, from: Hour) -> Result<u64, SqlError> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM ledger l JOIN batches b ON b.id = l.batch_id
         WHERE b.batch_at >= coalesce($1, '-infinity'::timestamptz)",
    )
    .bind(start_of(from))
    .fetch_one(connection)
    .await?;
    Ok(count.cast_unsigned())
}

/// `None` before every batch there can be: PostgreSQL's calendar starts in 4713 BC.
pub(crate) fn start_of(hour: Hour) -> Option<DateTime<Utc>> {
    const LONG_AGO: Hour = Hour(-24 * 365 * 6_000);
    (hour > LONG_AGO).then(|| hour.start())
}

fn decode(row: &PgRow) -> Result<CountedBatch, SqlError> {
    Ok(CountedBatch {
        position: BatchPosition {
            timestamp: row.try_get("batch_at")?,
            id: row.try_get::<Uuid, _>("id")?.into(),
        },
        key: statistics_key(
            row.try_get("llm_id")?,
            row.try_get("metric_id")?,
            row.try_get("source")?,
        )?,
        values: row.try_get("data_points")?,
    })
}
