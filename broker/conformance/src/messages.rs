use std::{future::Future, num::NonZeroU16, time::Duration};

use bytes::Bytes;
use chrono::DateTime;
use shared_types::{BatchId, message};
use test_patience::{found, soon, until};

use broker::{Broker, BrokerInfo, Delivery, OutgoingMessage, Prefetch, Subscription};

/// Waits until the link that publishes is ready.
pub(super) async fn ready(broker: &dyn Broker) {
    let publisher = broker.publisher();
    until("the link becomes ready", async || publisher.link().is_ready()).await;
}

/// The broker's version and queue depths, as soon as it answers.
pub(super) async fn info(broker: &dyn Broker) -> BrokerInfo {
    found("the broker's answer", async || broker.info().await.ok()).await
}

/// Waits until there are `number` dead letters. After a listing they may be back in their queue a moment later.
pub(super) async fn until_dead(broker: &dyn Broker, number: usize) {
    until("the dead letters are there", async || {
        info(broker).await.dead == number as u64
    })
    .await;
}

/// The `number`th message; its body begins with the number.
pub(super) fn message(number: u64) -> OutgoingMessage {
    message_of(number, Bytes::from(format!("{number} {{\"values\": [0.1]}}")))
}

pub(super) fn message_of(number: u64, body: Bytes) -> OutgoingMessage {
    let timestamp = DateTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number);
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    OutgoingMessage {
        id: BatchId::new(timestamp, random),
        llm: "GPT-4o".to_owned(),
        metric: "ttft".to_owned(),
        routing_key: "batch.gpt-4o.ttft".to_owned(),
        n: 1,
        timestamp,
        run_id: None,
        content_type: message::CONTENT_TYPE,
        body,
    }
}

/// The number of the delivered message.
pub(super) fn number_of(delivery: &Delivery) -> u64 {
    let text = std::str::from_utf8(&delivery.body).expect("a message of this suite");
    let number = text.split(' ').next().expect("a message of this suite");
    number.parse().expect("a message of this suite")
}

/// Publishes each message in a task of its own and waits until all are confirmed. Runs `meanwhile` at the same time, because a
/// confirmation may need a consumer.
pub(super) async fn publishing<T>(
    broker: &dyn Broker,
    messages: impl IntoIterator<Item = OutgoingMessage>,
    meanwhile: impl Future<Output = T>,
) -> T {
    ready(broker).await;
    let tasks: Vec<_> = messages
        .into_iter()
        .map(|message| {
            let publisher = broker.publisher();
            tokio::spawn(async move { publisher.publish(&message).await })
        })
        .collect();
    let done = soon("what happens beside publishing", meanwhile).await;
    for task in tasks {
        soon("a confirmation", task)
            .await
            .expect("publishing does not panic")
            .expect("published");
    }
    done
}

pub(super) fn prefetch(limit: u16) -> Prefetch {
    Prefetch::messages(NonZeroU16::new(limit).expect("not zero"))
}

pub(super) async fn next(subscription: &mut dyn Subscription) -> Delivery {
    soon("a delivery", subscription.next())
        .await
        .expect("the broker is open")
}

/// Checks that the queue is empty: the next delivery is a message that is published now. Leaves the queue empty.
pub(super) async fn nothing_left(broker: &dyn Broker, subscription: &mut dyn Subscription) {
    const LAST: u64 = 1_000_000;
    publishing(broker, [message(LAST)], async {
        let delivery = next(subscription).await;
        assert_eq!(number_of(&delivery), LAST, "unexpected: {delivery:?}");
        delivery.ack().await.expect("settled");
    })
    .await;
}
