//! Batches of the ledger, page by page.

use chrono::{DateTime, Utc};
use shared_types::BatchId;
use sqlx::{PgConnection, Row, postgres::PgRow};
use storage::{
    Hour,
    columns::statistics_key,
    rebuild::{CountedBatch, Place},
};
use uuid::Uuid;

use crate::{batch_rows::uuids, fault::SqlError};

/// The next batches from this hour on, oldest first; with a snapshot, only those that were counted by then.
pub(crate) async fn page(
    connection: &mut PgConnection,
    from: Hour,
    after: Option<Place>,
    limit: u32,
    counted_by: Option<&str>,
) -> Result<Vec<CountedBatch>, SqlError> {
    // Without a place to go on from, the page starts behind the last batch that the hour before can have: timestamps are
    // whole microseconds, and an id may be any UUID, the nil one included.
    sqlx::query(
        "SELECT b.id, b.llm_id, b.metric_id, b.source, b.batch_at, b.data_points
         FROM batches b JOIN ledger l ON l.batch_id = b.id
         WHERE (b.batch_at, b.id) > (coalesce($1, $2 - interval '1 microsecond', '-infinity'::timestamptz),
                                     coalesce($3, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
           AND ($4::text IS NULL OR pg_visible_in_snapshot(l.counted_in::text::xid8, $4::text::pg_snapshot))
         ORDER BY b.batch_at, b.id
         LIMIT $5",
    )
    .bind(after.map(|place| place.timestamp))
    .bind(start_of(from))
    .bind(after.map(|place| place.id.as_uuid()))
    .bind(counted_by)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?
    .iter()
    .map(decode)
    .collect()
}

pub(crate) async fn load(
    connection: &mut PgConnection,
    ids: &[BatchId],
) -> Result<Vec<CountedBatch>, SqlError> {
    sqlx::query("SELECT id, llm_id, metric_id, source, batch_at, data_points FROM batches WHERE id = ANY($1)")
        .bind(uuids(ids))
        .fetch_all(connection)
        .await?
        .iter()
        .map(decode)
        .collect()
}

/// `None` before every batch there can be: PostgreSQL's calendar starts in 4713 BC.
pub(crate) fn start_of(hour: Hour) -> Option<DateTime<Utc>> {
    const LONG_AGO: Hour = Hour(-24 * 365 * 6_000);
    (hour > LONG_AGO).then(|| hour.start())
}

fn decode(row: &PgRow) -> Result<CountedBatch, SqlError> {
    Ok(CountedBatch {
        place: Place {
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
