//! How a dead letter is stored in RabbitMQ: the rejected message with headers that say why and where it came from.

use broker::DeadLetter;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{
    amqp_message::{AmqpMessage, PERSISTENT, short, text},
    received_message::ReceivedMessage,
    topology::{DEAD_EXCHANGE, EXCHANGE, ROUTING_KEY_PREFIX, Topology},
};

const REASON: &str = "x-reason";
const REJECTED_AT: &str = "x-rejected-at";
const ORIGINAL_EXCHANGE: &str = "x-original-exchange";
const ORIGINAL_ROUTING_KEY: &str = "x-original-routing-key";
const OWN_HEADERS: [&str; 4] = [REASON, REJECTED_AT, ORIGINAL_EXCHANGE, ORIGINAL_ROUTING_KEY];
/// RabbitMQ routes a message to further queues by these headers, so a copy must not have them.
const ROUTING_HEADERS: [&str; 2] = ["CC", "BCC"];
/// The header in which RabbitMQ itself records why and from where it dead-lettered a message (by a policy).
const DEATHS: &str = "x-death";
const MAX_REASON_BYTES: usize = 4096;

/// The dead letter of a message: the same body and properties, with the reason and the origin in the headers.
pub(crate) fn to_dead_letter(
    message: &ReceivedMessage,
    reason: &str,
    rejected_at: DateTime<Utc>,
) -> AmqpMessage {
    let mut headers = headers_without(&message.properties, &ROUTING_HEADERS);
    headers
        .insert(
            REASON.into(),
            text(&reason[..reason.floor_char_boundary(MAX_REASON_BYTES)]),
        )
        .insert(
            REJECTED_AT.into(),
            text(&rejected_at.to_rfc3339_opts(SecondsFormat::Millis, true)),
        )
        .insert(ORIGINAL_EXCHANGE.into(), text(message.exchange.as_str()))
        .insert(ORIGINAL_ROUTING_KEY.into(), text(message.routing_key.as_str()));
    AmqpMessage {
        exchange: DEAD_EXCHANGE.into(),
        routing_key: message.routing_key.clone(),
        properties: copied(&message.properties, headers, &message.body),
        body: message.body.clone(),
    }
}

/// The original message of a dead letter, addressed to the queue of batches.
pub(crate) fn to_original(letter: &ReceivedMessage, topology: &Topology) -> AmqpMessage {
    let routing_key = original_routing_key(letter);
    let headers = headers_without(
        &letter.properties,
        &[OWN_HEADERS.as_slice(), &ROUTING_HEADERS, &[DEATHS]].concat(),
    );
    let (exchange, routing_key) = if routing_key.starts_with(ROUTING_KEY_PREFIX) {
        (EXCHANGE.into(), short(&routing_key))
    } else {
        // The message is from an older producer, which publishes to the queue by its name.
        (ShortString::default(), topology.queue.clone())
    };
    AmqpMessage {
        exchange,
        routing_key,
        properties: copied(&letter.properties, headers, &letter.body),
        body: letter.body.clone(),
    }
}

/// A dead letter as it is shown to the operator.
pub(crate) fn describe(letter: ReceivedMessage) -> DeadLetter {
    let rejected_at = header_text(&letter.properties, REJECTED_AT)
        .and_then(|time| DateTime::parse_from_rfc3339(&time).ok())
        .map(|time| time.to_utc());
    DeadLetter {
        id: id(&letter.properties, &letter.body),
        reason: reason(&letter.properties),
        rejected_at: rejected_at.or_else(|| time_of_death(&letter.properties)),
        routing_key: original_routing_key(&letter),
        body: letter.body,
    }
}

/// The message's id; where it has none, the first half of the BLAKE3 hash of its body in hexadecimal.
pub(crate) fn id(properties: &BasicProperties, body: &Bytes) -> String {
    match properties.message_id() {
        Some(id) => id.to_string(),
        None => blake3::hash(body).to_hex()[..32].to_owned(),
    }
}

/// A copy of the properties with other headers. Without `user_id`, because RabbitMQ refuses that of another user, and without
/// `expiration`, because a dead letter is kept until the operator decides.
fn copied(properties: &BasicProperties, headers: FieldTable, body: &Bytes) -> BasicProperties {
    let mut copy = BasicProperties::default()
        .with_headers(headers)
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(&id(properties, body)));
    type With<T> = fn(BasicProperties, T) -> BasicProperties;
    let texts: [(&Option<ShortString>, With<ShortString>); 7] = [
        (properties.content_type(), BasicProperties::with_content_type),
        (
            properties.content_encoding(),
            BasicProperties::with_content_encoding,
        ),
        (properties.correlation_id(), BasicProperties::with_correlation_id),
        (properties.reply_to(), BasicProperties::with_reply_to),
        (properties.kind(), BasicProperties::with_type),
        (properties.app_id(), BasicProperties::with_app_id),
        (properties.cluster_id(), BasicProperties::with_cluster_id),
    ];
    for (value, with) in texts {
        if let Some(value) = value {
            copy = with(copy, value.clone());
        }
    }
    if let Some(priority) = properties.priority() {
        copy = copy.with_priority(*priority);
    }
    if let Some(timestamp) = properties.timestamp() {
        copy = copy.with_timestamp(*timestamp);
    }
    copy
}

fn headers_without(properties: &BasicProperties, unwanted: &[&str]) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flatten() {
        if !unwanted.contains(&name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers
}

fn reason(properties: &BasicProperties) -> String {
    if let Some(reason) = header_text(properties, REASON) {
        return reason;
    }
    match last_death(properties).and_then(|death| value_text(death.inner().get("reason")?)) {
        Some(reason) => format!("dead-lettered by the broker: {reason}"),
        None => "unknown".to_owned(),
    }
}

fn original_routing_key(letter: &ReceivedMessage) -> String {
    let by_the_broker = || match last_death(&letter.properties)?.inner().get("routing-keys")? {
        AMQPValue::FieldArray(keys) => value_text(keys.as_slice().first()?),
        _ => None,
    };
    header_text(&letter.properties, ORIGINAL_ROUTING_KEY)
        .or_else(by_the_broker)
        .unwrap_or_else(|| letter.routing_key.to_string())
}

fn time_of_death(properties: &BasicProperties) -> Option<DateTime<Utc>> {
    match last_death(properties)?.inner().get("time")? {
        AMQPValue::Timestamp(seconds) => DateTime::from_timestamp(i64::try_from(*seconds).ok()?, 0),
        _ => None,
    }
}

/// The most recent entry of the header `x-death`; RabbitMQ puts it first.
fn last_death(properties: &BasicProperties) -> Option<&FieldTable> {
    match properties.headers().as_ref()?.inner().get(DEATHS)? {
        AMQPValue::FieldArray(deaths) => match deaths.as_slice().first()? {
            AMQPValue::FieldTable(death) => Some(death),
            _ => None,
        },
        _ => None,
    }
}

fn header_text(properties: &BasicProperties, name: &str) -> Option<String> {
    value_text(properties.headers().as_ref()?.inner().get(name)?)
}

fn value_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RabbitMqSettings;

    fn topology() -> Topology {
        Topology::of(&RabbitMqSettings::new("amqp://host", "batches").unwrap())
    }

    fn received(routing_key: &str, properties: BasicProperties) -> ReceivedMessage {
        ReceivedMessage {
            exchange: EXCHANGE.into(),
            routing_key: routing_key.into(),
            properties,
            body: Bytes::from_static(b"[]"),
        }
    }

    fn dead_letter(message: &ReceivedMessage) -> ReceivedMessage {
        let letter = to_dead_letter(message, "an empty array", DateTime::UNIX_EPOCH);
        ReceivedMessage {
            exchange: letter.exchange,
            routing_key: letter.routing_key,
            properties: letter.properties,
            body: letter.body,
        }
    }

    #[test]
    fn a_letter_says_why_and_comes_back_as_it_was() {
        let mut headers = FieldTable::default();
        headers.insert("llm".into(), text("GPT-4o"));
        let properties = BasicProperties::default()
            .with_message_id("7".into())
            .with_type("metric.batch".into())
            .with_delivery_mode(PERSISTENT)
            .with_headers(headers);
        let message = received("batch.gpt-4o.ttft", properties);
        let letter = dead_letter(&message);

        let back = to_original(&letter, &topology());
        assert_eq!(back.properties, message.properties);
        assert_eq!(
            (back.exchange.as_str(), back.routing_key.as_str()),
            (EXCHANGE, "batch.gpt-4o.ttft")
        );
        assert_eq!(back.body, message.body);

        let shown = describe(letter);
        assert_eq!(
            (shown.id.as_str(), shown.reason.as_str()),
            ("7", "an empty array")
        );
        assert_eq!(shown.rejected_at, Some(DateTime::UNIX_EPOCH));
        assert_eq!(shown.routing_key, "batch.gpt-4o.ttft");
    }

    #[test]
    fn a_message_of_an_older_producer_gets_an_id_and_goes_back_to_the_queue_by_its_name() {
        let message = received("batches", BasicProperties::default());
        let letter = dead_letter(&message);
        let back = to_original(&letter, &topology());
        assert_eq!(
            (back.exchange.as_str(), back.routing_key.as_str()),
            ("", "batches")
        );
        assert_eq!(
            describe(letter).id,
            id(&BasicProperties::default(), &message.body)
        );
    }

    #[test]
    fn properties_that_would_refuse_expire_or_multiply_a_copy_are_not_copied() {
        let mut headers = FieldTable::default();
        headers.insert("CC".into(), text("elsewhere"));
        let properties = BasicProperties::default()
            .with_user_id("somebody".into())
            .with_expiration("1".into())
            .with_headers(headers);
        let letter = dead_letter(&received("batches", properties)).properties;
        assert_eq!((letter.user_id(), letter.expiration()), (&None, &None));
        assert_eq!(header_text(&letter, "CC"), None);
    }

    #[test]
    fn a_letter_of_the_broker_itself_is_described_by_its_death() {
        let mut death = FieldTable::default();
        death
            .insert("reason".into(), text("delivery_limit"))
            .insert("time".into(), AMQPValue::Timestamp(60))
            .insert(
                "routing-keys".into(),
                AMQPValue::FieldArray(vec![text("batch.a.b")].into()),
            );
        let mut headers = FieldTable::default();
        headers.insert(
            DEATHS.into(),
            AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into()),
        );
        let shown = describe(received(
            "other",
            BasicProperties::default().with_headers(headers),
        ));
        assert_eq!(shown.reason, "dead-lettered by the broker: delivery_limit");
        assert_eq!(shown.routing_key, "batch.a.b");
        assert_eq!(shown.rejected_at.map(|time| time.timestamp()), Some(60));
    }
}
