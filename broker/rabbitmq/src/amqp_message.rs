use broker::OutgoingMessage;
use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use shared_types::{BatchId, message::SCHEMA_VERSION};

use crate::topology::EXCHANGE;

/// AMQP's `delivery_mode` of messages that survive a restart of the broker.
pub(crate) const PERSISTENT: u8 = 2;
const MAX_SHORT_STRING_BYTES: usize = 255;

/// A message to publish over AMQP.
#[derive(Debug)]
pub(crate) struct AmqpMessage {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    /// They contain a `message_id`, which identifies the message if the broker returns it.
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

impl AmqpMessage {
    pub(crate) fn batch(message: &OutgoingMessage, app_id: &str) -> Self {
        let mut properties = BasicProperties::default()
            .with_message_id(short(&message.id.to_string()))
            .with_type("metric.batch".into())
            .with_content_type(short(message.content_type))
            .with_delivery_mode(PERSISTENT)
            // Seconds, as AMQP has it; times before 1970 do not occur in a valid batch.
            .with_timestamp(message.timestamp.timestamp().try_into().unwrap_or(0))
            .with_app_id(short(app_id))
            .with_headers(headers(message));
        if let Some(run_id) = &message.run_id {
            properties = properties.with_correlation_id(short(run_id));
        }
        Self {
            exchange: EXCHANGE.into(),
            routing_key: short(&message.routing_key),
            properties,
            body: message.body.clone(),
        }
    }

    pub(crate) fn message_id(&self) -> &str {
        self.properties
            .message_id()
            .as_ref()
            .map_or("", ShortString::as_str)
    }
}

fn headers(message: &OutgoingMessage) -> FieldTable {
    let mut headers = FieldTable::default();
    headers
        .insert(
            "schema_version".into(),
            AMQPValue::LongLongInt(SCHEMA_VERSION.into()),
        )
        .insert("llm".into(), text(&message.llm))
        .insert("metric".into(), text(&message.metric))
        .insert(
            "n".into(),
            AMQPValue::LongLongInt(i64::try_from(message.n).unwrap_or(i64::MAX)),
        )
        .insert("traceparent".into(), text(&traceparent(message.id)));
    headers
}

/// W3C Trace Context with the batch's id as the trace id, so that all attempts to handle a batch are in one trace. Not sampled,
/// because nothing here exports spans.
fn traceparent(id: BatchId) -> String {
    let trace = id.as_uuid().simple();
    let (_, parent) = id.as_uuid().as_u64_pair();
    format!("00-{trace}-{parent:016x}-00")
}

pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// An AMQP short string, cut at its limit of 255 bytes. A name of 200 characters may be longer; the headers and the body
/// contain the full name.
pub(crate) fn short(text: &str) -> ShortString {
    text[..text.floor_char_boundary(MAX_SHORT_STRING_BYTES)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_the_batch() {
        let id: BatchId = "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b".parse().unwrap();
        assert_eq!(
            traceparent(id),
            "00-0199a1b2c3d47e5f8a6b7c8d9e0f1a2b-8a6b7c8d9e0f1a2b-00"
        );
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(short(&"語".repeat(200)).as_str(), "語".repeat(85));
        assert_eq!(short("batch.gpt-4o.ttft").as_str(), "batch.gpt-4o.ttft");
    }
}
