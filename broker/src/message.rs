use bytes::Bytes;
use chrono::{DateTime, Utc};
use shared_types::BatchId;

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
