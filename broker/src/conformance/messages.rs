use std::{future::Future, num::NonZeroU16, time::Duration};

use bytes::Bytes;
use chrono::DateTime;
use shared_types::{BatchId, message};

use crate::{Broker, Delivery, OutgoingMessage, Prefetch, Subscription};

/// Far longer than anything takes here, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition that cannot be awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long something is watched that must not happen.
const WATCHED: Duration = Duration::from_millis(300);

/// Fails the case when the future takes too long.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_elapsed| panic!("{what}: nothing after {PATIENCE:?}"))
}

/// Waits until the condition holds.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !holds().await {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    })
    .await;
}

/// Waits until the broker can be published to.
pub(super) async fn ready(broker: &dyn Broker) {
    let publisher = broker.publisher();
    until("the link becomes ready", async || publisher.link().is_ready()).await;
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

/// Which message was delivered.
pub(super) fn number_of(delivery: &Delivery) -> u64 {
    let text = std::str::from_utf8(&delivery.body).expect("a message of this suite");
    let number = text.split(' ').next().expect("a message of this suite");
    number.parse().expect("a message of this suite")
}

/// Publishes in tasks of their own, and waits until all are confirmed; the other future runs beside it, since a
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

/// Nothing is delivered for a while.
pub(super) async fn nothing(subscription: &mut dyn Subscription) {
    let delivered = tokio::time::timeout(WATCHED, subscription.next()).await;
    let number = delivered.as_ref().ok().and_then(Option::as_ref).map(number_of);
    assert!(
        delivered.is_err(),
        "unexpected: message {number:?}, {delivered:?}"
    );
}
