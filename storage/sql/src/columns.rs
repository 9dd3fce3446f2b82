//! From a row's columns to the vocabulary. What does not pass the constructors' checks is a fault of the stored data.

mod dead_letters;
mod statistics;

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared_types::{
    BatchContent, BatchId, Bounds, Checksum, Creator, Llm, LlmId, LlmName, Metadata, Metric, MetricBatch,
    MetricId, MetricTitle, Provenance, RunId, Unit, Values,
};
use storage::{ApiKeyId, ApiKeyRecord, BatchCursor, BatchPage, MetricChange, StoredBatch};
use uuid::Uuid;

pub use self::{
    dead_letters::{DeadLetterColumns, NoteColumns},
    statistics::{
        ALL_TIME, FIRST_HOUR, RowKeyColumns, period_column, row_key, statistics_key, statistics_row,
    },
};
use crate::{
    SqlError,
    write_transaction::{KnownMetric, StoredIdentity},
};

/// The columns of a batch, its LLM's name and its metric's title and unit.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the columns' names in the database, explained in the migrations"
)]
pub struct BatchColumns {
    pub id: Uuid,
    pub llm: String,
    pub metric: String,
    pub unit: String,
    pub source: String,
    pub run_id: Option<String>,
    pub seed: Option<i64>,
    pub sequence: Option<i64>,
    pub metadata: Option<String>,
    pub batch_at: DateTime<Utc>,
    pub data_points: Vec<f64>,
    pub checksum: Vec<u8>,
    pub recorded_at: DateTime<Utc>,
}

impl TryFrom<BatchColumns> for StoredBatch {
    type Error = SqlError;

    /// Refuses a row whose content is not what was stored, by its checksum.
    fn try_from(columns: BatchColumns) -> Result<Self, SqlError> {
        let id = BatchId::from(columns.id);
        let content = BatchContent {
            llm: LlmName::new(&columns.llm)?,
            metric: MetricTitle::new(&columns.metric)?,
            unit: Some(Unit::new(&columns.unit)?),
            values: Values::new(columns.data_points)?,
            timestamp: columns.batch_at,
            provenance: Provenance {
                source: columns.source.parse()?,
                run_id: columns.run_id.as_deref().map(RunId::new).transpose()?,
                seed: columns.seed.map(i64::cast_unsigned),
                sequence: columns.sequence.map(i64::cast_unsigned),
                metadata: metadata(columns.metadata.as_deref())?,
            },
        };
        let batch = MetricBatch::new(id, content);
        if batch.checksum() != Checksum::try_from(columns.checksum.as_slice())? {
            return Err(SqlError::fault(format!(
                "the stored batch {id} does not match its checksum"
            )));
        }
        Ok(Self {
            batch,
            recorded_at: columns.recorded_at,
        })
    }
}

/// A page of `limit` batches from up to one more, which is there where another page follows.
#[must_use]
pub fn batch_page(mut batches: Vec<StoredBatch>, limit: u32) -> BatchPage {
    let limit = limit as usize;
    let another_follows = batches.len() > limit;
    batches.truncate(limit);
    let next = batches
        .last()
        .filter(|_| another_follows)
        .map(|StoredBatch { batch, .. }| BatchCursor {
            timestamp: batch.timestamp(),
            id: batch.id(),
        });
    BatchPage { batches, next }
}

/// A batch's metadata as its column holds it: JSON, nothing where nothing is said.
#[must_use]
pub fn metadata_column(metadata: &Metadata) -> Option<String> {
    (!metadata.is_empty()).then(|| Value::Object(metadata.fields().clone()).to_string())
}

fn metadata(column: Option<&str>) -> Result<Metadata, SqlError> {
    column.map_or(Ok(Metadata::default()), |json| {
        serde_json::from_str(json).map_err(SqlError::fault)
    })
}

/// Those of the claimed batches that can be read. One that cannot is no reason to keep the others from being published: it
/// is left out, and its claim lapses.
pub fn readable(
    claimed: impl IntoIterator<Item = (Uuid, Result<StoredBatch, SqlError>)>,
) -> Vec<MetricBatch> {
    claimed
        .into_iter()
        .filter_map(|(id, stored)| match stored {
            Ok(stored) => Some(stored.batch),
            Err(error) => {
                let error = error.during("read an unpublished batch");
                tracing::error!(
                    batch.id = %id,
                    error = &error as &dyn std::error::Error,
                    "a stored batch cannot be read; it stays in the outbox"
                );
                None
            }
        })
        .collect()
}

/// The columns of a stored batch that decide about another with its id.
///
/// # Errors
/// A fault where they do not decode.
pub fn stored_identity(
    llm_id: i64,
    metric_id: i64,
    source: &str,
    checksum: &[u8],
) -> Result<StoredIdentity, SqlError> {
    Ok(StoredIdentity {
        checksum: checksum.try_into()?,
        key: statistics_key(llm_id, metric_id, source)?,
    })
}

/// The columns of a metric that a batch must agree with.
///
/// # Errors
/// A fault where they do not decode.
pub fn known_metric(title: &str, unit: &str) -> Result<KnownMetric, SqlError> {
    Ok(KnownMetric {
        title: MetricTitle::new(title)?,
        unit: Unit::new(unit)?,
    })
}

/// The columns of an LLM.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns' names in the database")]
pub struct LlmColumns {
    pub id: i64,
    pub name: String,
    pub creator: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl TryFrom<LlmColumns> for Llm {
    type Error = SqlError;

    fn try_from(columns: LlmColumns) -> Result<Self, SqlError> {
        Ok(Self {
            id: LlmId(columns.id),
            name: LlmName::new(&columns.name)?,
            creator: Creator::new(&columns.creator)?,
            created_at: columns.created_at,
            updated_at: columns.updated_at,
        })
    }
}

/// The columns of a metric.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns' names in the database")]
pub struct MetricColumns {
    pub id: i64,
    pub title: String,
    pub unit: String,
    pub lower_bound: f64,
    pub upper_bound: f64,
    pub better: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl TryFrom<MetricColumns> for Metric {
    type Error = SqlError;

    fn try_from(columns: MetricColumns) -> Result<Self, SqlError> {
        Ok(Self {
            id: MetricId(columns.id),
            title: MetricTitle::new(&columns.title)?,
            unit: Unit::new(&columns.unit)?,
            bounds: Bounds::new(columns.lower_bound, columns.upper_bound)?,
            better: columns.better.parse()?,
            created_at: columns.created_at,
            updated_at: columns.updated_at,
        })
    }
}

/// The metric as it will be after a change at this time.
///
/// # Errors
/// The bounds that would result are refused: `Invalid`, an error of the port.
pub fn changed_metric(change: &MetricChange, metric: Metric, at: DateTime<Utc>) -> Result<Metric, SqlError> {
    let bounds = Bounds::new(
        change.lower_bound.unwrap_or(metric.bounds.lower()),
        change.upper_bound.unwrap_or(metric.bounds.upper()),
    )
    .map_err(|invalid| SqlError::Port(invalid.into()))?;
    Ok(Metric {
        bounds,
        unit: change.unit.clone().unwrap_or(metric.unit),
        better: change.better.unwrap_or(metric.better),
        updated_at: at,
        ..metric
    })
}

/// The columns of an API key.
#[expect(missing_docs, reason = "the columns' names in the database")]
pub struct ApiKeyColumns {
    pub id: String,
    pub name: String,
    pub scope: String,
    pub hash: Vec<u8>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

impl TryFrom<ApiKeyColumns> for ApiKeyRecord {
    type Error = SqlError;

    fn try_from(columns: ApiKeyColumns) -> Result<Self, SqlError> {
        Ok(Self {
            id: ApiKeyId(columns.id),
            name: columns.name,
            scope: columns.scope.parse()?,
            hash: columns
                .hash
                .try_into()
                .map_err(|hash: Vec<u8>| SqlError::fault(format!("a key hash of {} bytes", hash.len())))?,
            created_at: columns.created_at,
            expires_at: columns.expires_at,
            revoked_at: columns.revoked_at,
        })
    }
}
