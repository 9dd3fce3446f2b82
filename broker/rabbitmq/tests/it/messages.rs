use std::{
    collections::BTreeSet,
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker::{Broker, Delivery, OutgoingMessage, Prefetch, Publisher, Subscription};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use shared_types::{
    BatchContent, BatchId, LlmName, Metadata, MetricBatch, MetricTitle, Provenance, RunId, Source, Values,
    message,
};
use test_patience::soon;

/// The delay before a message is published again.
const AGAIN: Duration = Duration::from_millis(50);

/// The `number`th message of a run: a batch of three values.
pub(crate) fn batch(number: u64) -> OutgoingMessage {
    batch_of(number, vec![0.1, 0.2, 0.3])
}

pub(crate) fn batch_of(number: u64, values: Vec<f64>) -> OutgoingMessage {
    let timestamp: DateTime<Utc> = DateTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    let content = BatchContent {
        llm: LlmName::new("GPT-4o").unwrap(),
        metric: MetricTitle::new("ttft").unwrap(),
        unit: None,
        values: Values::new(values).unwrap(),
        timestamp,
        provenance: Provenance {
            source: Source::Measured,
            run_id: Some(RunId::new("run-7").unwrap()),
            seed: None,
            sequence: Some(number),
            metadata: Metadata::default(),
        },
    };
    outbox::outgoing_message(&MetricBatch::new(BatchId::new(timestamp, random), content))
}

pub(crate) fn id_of(delivery: &Delivery) -> BatchId {
    message::decode(&delivery.body).unwrap()[0].id()
}

pub(crate) fn subscribe(broker: &dyn Broker, prefetch: u16) -> Box<dyn Subscription> {
    broker.subscribe(Prefetch::messages(NonZeroU16::new(prefetch).unwrap()))
}

pub(crate) async fn next(subscription: &mut dyn Subscription) -> Delivery {
    soon("a delivery", subscription.next())
        .await
        .expect("the broker is open")
}

/// Publishes each message until it is confirmed, many at a time, as the outbox does. Returns the number of failed attempts.
pub(crate) async fn publish_until_confirmed(
    publisher: Arc<dyn Publisher>,
    messages: impl IntoIterator<Item = OutgoingMessage>,
    failures: Arc<AtomicUsize>,
) {
    const AT_A_TIME: usize = 64;
    futures::stream::iter(messages)
        .for_each_concurrent(AT_A_TIME, |message| {
            let (publisher, failures) = (Arc::clone(&publisher), Arc::clone(&failures));
            async move {
                while publisher.publish(&message).await.is_err() {
                    failures.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        })
        .await;
}

/// Acknowledges deliveries until all ids have been delivered. Returns the number of deliveries.
pub(crate) async fn consume_all(
    subscription: &mut dyn Subscription,
    mut missing: BTreeSet<BatchId>,
) -> usize {
    let mut deliveries = 0;
    while !missing.is_empty() {
        let delivery = next(subscription).await;
        deliveries += 1;
        missing.remove(&id_of(&delivery));
        // Fails where the link is lost. The message is then delivered again and counted once more.
        let _ = delivery.ack().await;
    }
    deliveries
}
