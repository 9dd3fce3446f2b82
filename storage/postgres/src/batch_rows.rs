//! Rows of `batches`, in and out.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use shared_types::{BatchId, MetricBatch, RunId, Unit};
use sqlx::{PgConnection, Row, postgres::PgRow};
use storage::StoredBatch;
use storage_sql::{
    SqlError,
    columns::{BatchColumns, metadata_column},
    write_transaction::Publication,
};
use uuid::Uuid;

use crate::advisory_locks::RETENTION;

/// What [`stored_batch`] reads.
macro_rules! batch_columns {
    () => {
        "b.id, l.name AS llm, m.title AS metric, m.unit, b.source, b.run_id, b.seed, b.sequence,
                    b.metadata::text AS metadata, b.batch_at, b.data_points, b.checksum, b.recorded_at"
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

pub(crate) fn stored_batch(row: &PgRow) -> Result<StoredBatch, SqlError> {
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
        batch_at: row.try_get("batch_at")?,
        data_points: row.try_get("data_points")?,
        checksum: row.try_get("checksum")?,
        recorded_at: row.try_get("recorded_at")?,
    }
    .try_into()
}

pub(crate) fn uuids(ids: &[BatchId]) -> Vec<Uuid> {
    ids.iter().map(BatchId::as_uuid).collect()
}

/// One statement stores any number of batches, and their outbox rows.
///
/// The values of all batches travel as one array, which each row takes its slice of: arrays of arrays must be
/// rectangular in PostgreSQL, and a slice of a fixed-width array without NULLs is found without a scan.
///
/// What is not in the registry falls out of the join, and so does a batch in another unit than `$4` says or of an hour
/// that is not kept. The limit does not change before the transaction ends.
/// Rows are locked in the order of the input, which is sorted.
const INSERT: &str = "
    WITH kept AS MATERIALIZED (
        SELECT coalesce(settled_retained_from($15), '-infinity') AS retained_from
    ), input AS MATERIALIZED (
        SELECT i.position, i.id, l.id AS llm_id, m.id AS metric_id, i.source, i.run_id, i.seed, i.sequence,
               i.metadata::jsonb AS metadata, i.batch_at, i.checksum, i.first, i.last
        FROM ROWS FROM (
                 unnest($1::uuid[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[]),
                 unnest($5::text[]), unnest($6::text[]), unnest($7::bigint[]), unnest($8::bigint[]),
                 unnest($9::timestamptz[]), unnest($10::bytea[]), unnest($11::int[]), unnest($12::int[]),
                 unnest($16::text[])
             ) WITH ORDINALITY
             AS i (id, llm, metric, unit, source, run_id, seed, sequence, batch_at, checksum, first, last, metadata,
                   position)
        JOIN llms l ON l.name = i.llm
        JOIN metrics m ON m.title = i.metric AND (i.unit IS NULL OR i.unit = m.unit)
        JOIN kept ON i.batch_at >= kept.retained_from
        ORDER BY i.position
    ), stored AS (
        INSERT INTO batches
            (id, llm_id, metric_id, source, run_id, seed, sequence, metadata, batch_at, data_points, checksum)
        SELECT id, llm_id, metric_id, source, run_id, seed, sequence, metadata, batch_at,
               ($13::float8[])[first:last], checksum
        FROM input
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    ), queued AS (
        INSERT INTO outbox (batch_id) SELECT id FROM stored WHERE $14
    )
    SELECT id FROM stored";

/// Whether the statement leaves out batches whose unit is not the metric's, or somebody has checked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Units {
    Compared,
    Checked,
}

/// Stores those of the batches that are new and whose LLM and metric are registered; gives their ids.
///
/// The batches are sorted by id, so that two callers with the same batches do not wait for each other in a circle.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    batches: &[&MetricBatch],
    units: Units,
    publication: Publication,
) -> Result<HashSet<BatchId>, SqlError> {
    let columns = Columns::of(batches, units);
    let rows = sqlx::query_scalar::<_, Uuid>(INSERT)
        .bind(columns.ids)
        .bind(columns.llms)
        .bind(columns.metrics)
        .bind(columns.units)
        .bind(columns.sources)
        .bind(columns.run_ids)
        .bind(columns.seeds)
        .bind(columns.sequences)
        .bind(columns.times)
        .bind(columns.checksums)
        .bind(columns.firsts)
        .bind(columns.lasts)
        .bind(columns.values)
        .bind(publication == Publication::Queued)
        .bind(RETENTION)
        .bind(columns.metadata)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(BatchId::from).collect())
}

/// The batches in pieces of which each fits a statement.
pub(crate) fn statements<'a, 'b>(
    batches: &'a [&'b MetricBatch],
) -> impl Iterator<Item = &'a [&'b MetricBatch]> {
    const MOST_BATCHES: usize = 256;
    /// 4 MB of doubles.
    const MOST_VALUES: usize = 524_288;
    let mut rest = batches;
    std::iter::from_fn(move || {
        let mut values = 0;
        let taken = rest
            .iter()
            .take(MOST_BATCHES)
            .take_while(|batch| {
                values += batch.values().len();
                values <= MOST_VALUES
            })
            .count();
        let (piece, others) = rest.split_at(taken);
        rest = others;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Batches turned into one array per column.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<Uuid>,
    llms: Vec<&'a str>,
    metrics: Vec<&'a str>,
    units: Vec<Option<&'a str>>,
    sources: Vec<&'a str>,
    run_ids: Vec<Option<&'a str>>,
    seeds: Vec<Option<i64>>,
    sequences: Vec<Option<i64>>,
    metadata: Vec<Option<String>>,
    times: Vec<DateTime<Utc>>,
    checksums: Vec<[u8; 32]>,
    /// Where the batch's values start in `values`, counted from 1, and end.
    firsts: Vec<i32>,
    lasts: Vec<i32>,
    values: Vec<f64>,
}

impl<'a> Columns<'a> {
    fn of(batches: &[&'a MetricBatch], units: Units) -> Self {
        let mut columns = Self::default();
        columns
            .values
            .reserve_exact(batches.iter().map(|batch| batch.values().len()).sum());
        for batch in batches {
            columns.push(batch, units);
        }
        columns
    }

    fn push(&mut self, batch: &'a MetricBatch, units: Units) {
        let provenance = batch.provenance();
        let unit = batch.content().unit.as_ref();
        self.ids.push(batch.id().as_uuid());
        self.llms.push(batch.llm().as_str());
        self.metrics.push(batch.metric().as_str());
        self.units
            .push(unit.filter(|_| units == Units::Compared).map(Unit::as_str));
        self.sources.push(provenance.source.as_str());
        self.run_ids.push(provenance.run_id.as_ref().map(RunId::as_str));
        self.seeds.push(provenance.seed.map(u64::cast_signed));
        self.sequences.push(provenance.sequence.map(u64::cast_signed));
        self.metadata.push(metadata_column(&provenance.metadata));
        self.times.push(batch.timestamp());
        self.checksums.push(*batch.checksum().as_bytes());
        self.firsts.push(position(self.values.len() + 1));
        self.values.extend_from_slice(batch.values());
        self.lasts.push(position(self.values.len()));
    }
}

/// A statement carries at most a few megabytes of values.
fn position(values: usize) -> i32 {
    i32::try_from(values).unwrap_or(i32::MAX)
}
