//! Batches of the ledger, page by page.

use shared_types::BatchId;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use storage::{
    Hour,
    columns::statistics_key,
    rebuild::{CountedBatch, Place},
};
use uuid::Uuid;

use crate::{
    batch_rows::{decode_values, id_list},
    fault::SqlError,
    time_columns::{from_column, start_of, to_column},
};

/// The next batches from this hour on that were counted by this revision, oldest first.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    from: Hour,
    after: Option<Place>,
    limit: u32,
    counted_by: i64,
) -> Result<Vec<CountedBatch>, SqlError> {
    // Without a place to go on from, the page starts behind the last batch that the hour before can have: timestamps are
    // whole microseconds, and an id may be any UUID, the nil one included.
    sqlx::query(
        "SELECT b.id, b.llm_id, b.metric_id, b.source, b.batch_at, b.data_points
         FROM batches b CROSS JOIN ledger l
         WHERE l.batch_id = b.id AND l.counted_in <= $4 AND (b.batch_at, b.id) > ($1, $2)
         ORDER BY b.batch_at, b.id
         LIMIT $3",
    )
    .bind(after.map_or_else(
        || start_of(from).saturating_sub(1),
        |place| to_column(place.timestamp),
    ))
    .bind(after.map_or(Uuid::max(), |place| place.id.as_uuid()))
    .bind(i64::from(limit))
    .bind(counted_by)
    .fetch_all(connection)
    .await?
    .iter()
    .map(decode)
    .collect()
}

pub(crate) async fn load(
    connection: &mut SqliteConnection,
    ids: &[BatchId],
) -> Result<Vec<CountedBatch>, SqlError> {
    sqlx::query(
        "SELECT id, llm_id, metric_id, source, batch_at, data_points FROM batches
         WHERE id IN (SELECT unhex(value) FROM json_each($1))",
    )
    .bind(id_list(ids))
    .fetch_all(connection)
    .await?
    .iter()
    .map(decode)
    .collect()
}

fn decode(row: &SqliteRow) -> Result<CountedBatch, SqlError> {
    Ok(CountedBatch {
        place: Place {
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
