use broker::OutgoingMessage;
use shared_types::{MetricBatch, message};

/// A batch as the message that is published: the encoded body, and what the broker shows of it. The same on every
/// attempt.
#[must_use]
pub fn outgoing_message(batch: &MetricBatch) -> OutgoingMessage {
    OutgoingMessage {
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
