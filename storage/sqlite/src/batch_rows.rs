//! Rows of `batches`, in and out.

use chrono::{DateTime, Utc};
use shared_types::{BatchId, MetricBatch, RunId};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use storage::StoredBatch;
use storage_sql::{
    SqlError,
    columns::{BatchColumns, metadata_column},
    write_transaction::Publication,
};

use crate::time_columns::{from_column, to_column};

/// What [`stored_batch`] reads.
macro_rules! batch_columns {
    () => {
        "b.id, l.name AS llm, m.title AS metric, m.unit, b.source, b.run_id, b.seed, b.sequence,
                    b.metadata, b.batch_at, b.data_points, b.checksum, b.recorded_at"
    };
}
pub(crate) use batch_columns;

/// A `SELECT` of what [`stored_batch`] reads, from `batches b`.
macro_rules! select_batches {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            crate::batch_rows::batch_columns!(),
            "
             FROM batches b JOIN llms l ON l.id = b.llm_id JOIN metrics m ON m.id = b.metric_id ",
            $rest
        )
    };
}
pub(crate) use select_batches;

pub(crate) fn stored_batch(row: &SqliteRow) -> Result<StoredBatch, SqlError> {
    BatchColumns {
        id: row.try_get("id")?,
        llm: row.try_get("llm")?,
        metric: row.try_get("metric")?,
        unit: row.try_get("unit")?,
        source: row.try_get("source")?,
        run_id: row.try_get("run_id")?,
        seed: row.try_get("seed")?,
        sequence: row.try_get("sequence")?,
        metadata: row.try_get("metadata")?,
        batch_at: from_column(row.try_get("batch_at")?)?,
        data_points: decode_values(row.try_get("data_points")?)?,
        checksum: row.try_get("checksum")?,
        recorded_at: from_column(row.try_get("recorded_at")?)?,
    }
    .try_into()
}

/// Little-endian doubles.
fn encode_values(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(crate) fn decode_values(bytes: &[u8]) -> Result<Vec<f64>, SqlError> {
    let (values, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(SqlError::fault(format!(
            "{} bytes are not whole doubles",
            bytes.len()
        )));
    }
    Ok(values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
}

/// Ids as a parameter of `IN (SELECT unhex(value) FROM json_each($1))`: one text for any number of them.
pub(crate) fn id_list(ids: &[BatchId]) -> String {
    let hex: Vec<String> = ids
        .iter()
        .map(|id| format!("\"{}\"", id.as_uuid().simple()))
        .collect();
    format!("[{}]", hex.join(","))
}

/// Stores a batch if it is new; its LLM and metric are registered. Tells whether it was.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    batch: &MetricBatch,
    publication: Publication,
    now: DateTime<Utc>,
) -> Result<bool, SqlError> {
    let provenance = batch.provenance();
    let stored = sqlx::query(
        "INSERT INTO batches
             (id, llm_id, metric_id, source, run_id, seed, sequence, batch_at, checksum, recorded_at, data_points, metadata)
         SELECT $1, l.id, m.id, $4, $5, $6, $7, $8, $9, $10, $11, $12
         FROM llms l JOIN metrics m WHERE l.name = $2 AND m.title = $3
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(batch.id().as_uuid())
    .bind(batch.llm().as_str())
    .bind(batch.metric().as_str())
    .bind(provenance.source.as_str())
    .bind(provenance.run_id.as_ref().map(RunId::as_str))
    .bind(provenance.seed.map(u64::cast_signed))
    .bind(provenance.sequence.map(u64::cast_signed))
    .bind(to_column(batch.timestamp()))
    .bind(batch.checksum().as_bytes().as_slice())
    .bind(to_column(now))
    .bind(encode_values(batch.values()))
    .bind(metadata_column(&provenance.metadata))
    .execute(&mut *connection)
    .await?;
    let is_new = stored.rows_affected() > 0;
    if is_new && publication == Publication::Queued {
        sqlx::query("INSERT INTO outbox (batch_id, recorded_at) VALUES ($1, $2)")
            .bind(batch.id().as_uuid())
            .bind(to_column(now))
            .execute(connection)
            .await?;
    }
    Ok(is_new)
}
