use bytes::Bytes;
use chrono::{DateTime, Utc};
use shared_types::{BatchId, MetricBatch, message};

/// A batch on its way to the broker: the encoded body, and what a router, an operator or a tracer wants to see
/// without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The batch's id, the same on every attempt.
    pub id: BatchId,
    /// The LLM's name.
    pub llm: String,
    /// The metric's title.
    pub metric: String,
    /// `batch.<llm-slug>.<metric>`.
    pub routing_key: String,
    /// How many values the batch holds.
    pub n: usize,
    /// When they were measured.
    pub timestamp: DateTime<Utc>,
    /// The run, where there is one.
    pub run_id: Option<String>,
    /// How the body is to be read.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl OutgoingMessage {
    /// Encodes a batch.
    #[must_use]
    pub fn of(batch: &MetricBatch) -> Self {
        Self {
            id: batch.id(),
            llm: batch.llm().to_string(),
            metric: batch.metric().to_string(),
            routing_key: format!("batch.{}.{}", batch.llm().slug(), batch.metric().slug()),
            n: batch.values().len(),
            timestamp: batch.timestamp(),
            run_id: batch.provenance().run_id.as_ref().map(ToString::to_string),
            content_type: message::CONTENT_TYPE,
            body: message::encode(batch).into(),
        }
    }
}
