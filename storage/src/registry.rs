use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::{Creator, Direction, Llm, LlmId, Metric, MetricId, NewLlm, NewMetric, RegistrySeed, Unit};

use crate::Result;

/// What may change on an LLM; `None` leaves a field as it is. The name is fixed: messages are addressed by it, and
/// stored batches' checksums cover it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LlmChange {
    /// A new creator.
    pub creator: Option<Creator>,
}

/// What may change on a metric; `None` leaves a field as it is. The title is fixed: messages are addressed by it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricChange {
    /// A new lower bound.
    pub lower_bound: Option<f64>,
    /// A new upper bound.
    pub upper_bound: Option<f64>,
    /// A new unit.
    pub unit: Option<Unit>,
    /// A new direction.
    pub better: Option<Direction>,
}

/// The LLMs and metrics that are known.
///
/// Archived rows are invisible here: they leave the lists, the rankings and the simulation, while their batches and
/// statistics stay. Registering an archived name again brings the same row back, with the new fields.
///
/// Where the first attempt of a call was committed and its reply lost, a repetition shows as `NameTaken` or `NotFound`.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Fills each of the two tables that is empty (archived rows count as rows). Atomic; a repetition does nothing.
    async fn seed(&self, seed: &RegistrySeed, at: DateTime<Utc>) -> Result<()>;

    /// The LLMs that are not archived, in the order of their ids.
    async fn llms(&self) -> Result<Vec<Llm>>;

    /// Registers an LLM.
    ///
    /// # Errors
    /// [`StorageError::NameTaken`](crate::StorageError::NameTaken).
    async fn create_llm(&self, new: &NewLlm, at: DateTime<Utc>) -> Result<Llm>;

    /// Changes an LLM and gives the row as it then is.
    ///
    /// # Errors
    /// `NotFound`.
    async fn update_llm(&self, id: LlmId, change: &LlmChange, at: DateTime<Utc>) -> Result<Llm>;

    /// Archives an LLM.
    ///
    /// # Errors
    /// `NotFound`, also where it is archived already.
    async fn archive_llm(&self, id: LlmId, at: DateTime<Utc>) -> Result<()>;

    /// The metrics that are not archived, in the order of their ids.
    async fn metrics(&self) -> Result<Vec<Metric>>;

    /// Registers a metric.
    ///
    /// # Errors
    /// `NameTaken`.
    async fn create_metric(&self, new: &NewMetric, at: DateTime<Utc>) -> Result<Metric>;

    /// Changes a metric and gives the row as it then is.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` (the bounds that would result).
    async fn update_metric(&self, id: MetricId, change: &MetricChange, at: DateTime<Utc>) -> Result<Metric>;

    /// Archives a metric.
    ///
    /// # Errors
    /// `NotFound`, also where it is archived already.
    async fn archive_metric(&self, id: MetricId, at: DateTime<Utc>) -> Result<()>;
}
