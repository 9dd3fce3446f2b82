//! Direct access to the broker, without the services.

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};

pub(crate) const QUEUE: &str = "benchmarking_service";
pub(crate) const DEAD_QUEUE: &str = "benchmarking_service.dead";

pub(crate) async fn channel(url: &str) -> Channel {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    connection.create_channel().await.unwrap()
}

/// How many messages wait in a queue, without those that a consumer holds.
pub(crate) async fn waiting(channel: &Channel, queue: &str) -> u32 {
    let look = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let found = channel
        .queue_declare(queue.into(), look, FieldTable::default())
        .await;
    found.unwrap().message_count()
}

/// Publishes like the older simulation service: an array, through the default exchange, without properties. Returns when
/// the broker has confirmed it.
pub(crate) async fn publish_to_queue(channel: &Channel, body: &[u8]) {
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let confirmed = channel
        .basic_publish("".into(), QUEUE.into(), options, body, BasicProperties::default())
        .await
        .unwrap()
        .await
        .unwrap();
    assert!(matches!(confirmed, Confirmation::Ack(None)), "{confirmed:?}");
}
