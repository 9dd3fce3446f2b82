//! Messages to and from other programs.

use broker::{Broker, DeadLetterSelection, LinkState};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions},
    types::AMQPValue,
};
use test_patience::until;

use crate::{
    messages::{batch, next, subscribe},
    servers::{QUEUE, connect_to, empty_vhost},
    waiting::{info, publish_link},
};

async fn plain_client(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_carries_the_properties_of_the_contract() {
    let url = empty_vhost().await;
    let broker = connect_to(&url);
    publish_link(&broker, LinkState::is_ready).await;
    let message = batch(7);
    broker.publisher().publish(&message).await.unwrap();

    let (_connection, channel) = plain_client(&url).await;
    let seen = channel
        .basic_get(QUEUE.into(), BasicGetOptions { no_ack: true })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(seen.exchange.as_str(), "llm.batches");
    assert_eq!(seen.routing_key.as_str(), "batch.gpt-4o.ttft");
    assert_eq!(seen.data, message.body);
    let properties = &seen.properties;
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    assert_eq!(text(properties.message_id()), Some(message.id.to_string()));
    assert_eq!(text(properties.kind()).as_deref(), Some("metric.batch"));
    assert_eq!(
        text(properties.content_type()).as_deref(),
        Some("application/json")
    );
    assert_eq!(text(properties.app_id()).as_deref(), Some("llm-bench"));
    assert_eq!(text(properties.correlation_id()).as_deref(), Some("run-7"));
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(*properties.timestamp(), Some(1_700_000_000));
    let headers = properties.headers().as_ref().unwrap().inner();
    let header = |name: &str| headers.get(name).cloned();
    assert_eq!(header("llm"), Some(AMQPValue::LongString("GPT-4o".into())));
    assert_eq!(header("metric"), Some(AMQPValue::LongString("ttft".into())));
    assert_eq!(header("schema_version"), Some(AMQPValue::LongLongInt(1)));
    assert_eq!(header("n"), Some(AMQPValue::LongLongInt(3)));
    assert!(matches!(header("traceparent"), Some(AMQPValue::LongString(_))));
    broker.close().await;
}

/// An older producer publishes to the queue by its name, without properties, and may start before our services.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_producer_is_understood() {
    let url = empty_vhost().await;
    let broker = connect_to(&url);
    publish_link(&broker, LinkState::is_ready).await;
    let body =
        br#"[{"llm_name": "GPT-4o", "metric": "TTFT", "values": [1], "timestamp": "2024-09-27T11:29:13Z"}]"#;
    let (_connection, channel) = plain_client(&url).await;
    channel
        .basic_publish(
            "".into(),
            QUEUE.into(),
            BasicPublishOptions::default(),
            body,
            BasicProperties::default(),
        )
        .await
        .unwrap();

    let mut subscription = subscribe(&broker, 1);
    let delivery = next(&mut *subscription).await;
    assert_eq!(delivery.body, body.as_slice());
    delivery.reject("for once").await.unwrap();
    let letters = broker.dead_letters();
    assert_eq!(letters.list(1).await.unwrap()[0].routing_key, QUEUE);
    // The listed letters may be back in the queue a moment later.
    until("the letter is replayed", async || {
        !letters
            .replay(&DeadLetterSelection::All)
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    let again = next(&mut *subscription).await;
    assert_eq!(again.body, body.as_slice());
    again.ack().await.unwrap();
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_is_the_servers() {
    let broker = connect_to(&empty_vhost().await);
    publish_link(&broker, LinkState::is_ready).await;
    let version = info(&broker).await.version;
    let number = version.strip_prefix("RabbitMQ ").expect("a RabbitMQ");
    assert!(number.starts_with(|c: char| c.is_ascii_digit()), "{number}");
    broker.close().await;
}
