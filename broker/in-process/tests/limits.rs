//! The limits of the in-process broker, and the dates of its dead letters.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{num::NonZeroU16, sync::Arc};

use broker::{Broker, DeadLetterSelection, OutgoingMessage, Prefetch, Subscription};
use broker_in_process::InProcessBroker;
use chrono::DateTime;
use futures::{FutureExt, future::join_all};
use shared_types::{BatchId, ManualClock};

const ONE: Prefetch = Prefetch::messages(NonZeroU16::MIN);

fn message(number: u8) -> OutgoingMessage {
    OutgoingMessage {
        id: BatchId::new(DateTime::UNIX_EPOCH, [number; 10]),
        llm: "GPT-4o".to_owned(),
        metric: "ttft".to_owned(),
        routing_key: "batch.gpt-4o.ttft".to_owned(),
        n: 1,
        timestamp: DateTime::UNIX_EPOCH,
        run_id: None,
        content_type: "application/json",
        body: vec![number].into(),
    }
}

#[tokio::test]
async fn a_publish_beyond_the_capacity_waits_until_a_message_is_settled() {
    let broker = InProcessBroker::new(2);
    let publisher = broker.publisher();
    let messages: Vec<_> = (0..3).map(message).collect();
    let mut publishing = Box::pin(join_all(
        messages.iter().map(|message| publisher.publish(message)),
    ));
    assert!(publishing.as_mut().now_or_never().is_none());
    assert_eq!(broker.info().await.unwrap().queued, 2);

    let mut subscription = broker.subscribe(ONE);
    subscription.next().await.unwrap().ack().await.unwrap();
    assert!(publishing.as_mut().now_or_never().is_none());
    assert_eq!(broker.info().await.unwrap().queued, 2);
    for _ in 0..2 {
        subscription.next().await.unwrap().ack().await.unwrap();
    }
    for published in publishing.await {
        published.unwrap();
    }
}

#[tokio::test]
async fn a_dead_letter_has_the_time_of_the_clock() {
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
    let broker = InProcessBroker::with_clock(1, clock);
    let publisher = broker.publisher();
    let message = message(1);
    let reject = async {
        let mut subscription = broker.subscribe(ONE);
        subscription.next().await.unwrap().reject("wrong").await.unwrap();
    };
    let (published, ()) = tokio::join!(publisher.publish(&message), reject);
    published.unwrap();
    let letters = broker.dead_letters().list(1).await.unwrap();
    assert_eq!(letters[0].rejected_at, Some(DateTime::UNIX_EPOCH));
}

#[tokio::test]
async fn dead_letters_are_limited_in_bytes() {
    const LETTERS: u8 = 5;
    let broker = InProcessBroker::new(1);
    let mut subscription = broker.subscribe(ONE);
    for number in 0..LETTERS {
        reject(&broker, &mut *subscription, number).await;
    }
    assert_eq!(dead(&broker).await, ids([2, 3, 4]));

    // Discarding frees the bytes.
    let discarded = DeadLetterSelection::Ids(ids([2, 3]));
    broker.dead_letters().discard(&discarded).await.unwrap();
    for number in LETTERS..LETTERS + 2 {
        reject(&broker, &mut *subscription, number).await;
    }
    assert_eq!(dead(&broker).await, ids([4, 5, 6]));
}

/// Publishes and rejects a message of 20 MiB.
async fn reject(broker: &InProcessBroker, subscription: &mut dyn Subscription, number: u8) {
    let message = OutgoingMessage {
        body: vec![0; 20 * 1024 * 1024].into(),
        ..message(number)
    };
    let publisher = broker.publisher();
    let reject = async { subscription.next().await.unwrap().reject("wrong").await.unwrap() };
    let (published, ()) = tokio::join!(publisher.publish(&message), reject);
    published.unwrap();
}

async fn dead(broker: &InProcessBroker) -> Vec<String> {
    let letters = broker.dead_letters().list(100).await.unwrap();
    letters.into_iter().map(|letter| letter.id).collect()
}

fn ids<const N: usize>(numbers: [u8; N]) -> Vec<String> {
    numbers.map(|number| message(number).id.to_string()).to_vec()
}
