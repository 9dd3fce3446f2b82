use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use test_patience::until;

use super::messages::{message, message_of, next, nothing_left, number_of, prefetch, publishing};
use broker::{Broker, Prefetch, PrefetchUsage};

/// A retried message is delivered again, marked as redelivered.
pub async fn retried_message_comes_again(broker: &dyn Broker) {
    let mut subscription = broker.subscribe(prefetch(1));
    publishing(broker, [message(1)], async {
        let first = next(&mut *subscription).await;
        first.retry().await.expect("settled");
        let again = next(&mut *subscription).await;
        assert!(again.redelivered);
        assert_eq!(number_of(&again), 1);
        again.ack().await.expect("settled");
    })
    .await;
    nothing_left(broker, &mut *subscription).await;
}

/// The message of a delivery that is dropped unsettled, as by a task that panics, is delivered again.
pub async fn dropped_delivery_comes_again(broker: &dyn Broker) {
    let mut subscription = broker.subscribe(prefetch(1));
    publishing(broker, [message(1)], async {
        drop(next(&mut *subscription).await);
        let again = next(&mut *subscription).await;
        assert!(again.redelivered);
        again.ack().await.expect("settled");
    })
    .await;
}

/// At most `prefetch.messages` deliveries are unsettled, and settling one allows the next.
pub async fn prefetch_bounds_what_is_unsettled(broker: &dyn Broker) {
    let mut full = broker.subscribe(prefetch(2));
    publishing(broker, (1..=5).map(message), async {
        let first = next(&mut *full).await;
        let second = next(&mut *full).await;
        // Messages beyond its prefetch are delivered to another subscription.
        let mut other = broker.subscribe(prefetch(1));
        let third = next(&mut *other).await;
        second.ack().await.expect("settled");
        let fourth = next(&mut *full).await;
        third.ack().await.expect("settled");
        let fifth = next(&mut *other).await;
        for delivery in [first, fourth, fifth] {
            delivery.ack().await.expect("settled");
        }
    })
    .await;
}

/// At most `prefetch.bytes` are unsettled, settling allows the next delivery, and `prefetch_usage` counts the unsettled ones.
pub async fn prefetch_bounds_the_bytes_of_what_is_unsettled(broker: &dyn Broker) {
    const MESSAGES: u64 = 12;
    const BODY: usize = 100_000;
    const LIMIT: usize = 4 * BODY;
    let mut subscription = broker.subscribe(Prefetch {
        bytes: NonZeroUsize::new(LIMIT).expect("not zero"),
        ..prefetch(100)
    });
    let body = |number: u64| Bytes::from(format!("{number} {}", "x".repeat(BODY)).into_bytes()).slice(..BODY);
    let messages = (1..=MESSAGES).map(|number| message_of(number, body(number)));
    publishing(broker, messages, async {
        let mut missing: BTreeSet<_> = (1..=MESSAGES).collect();
        while !missing.is_empty() {
            let mut held = vec![next(&mut *subscription).await];
            // Waits shortly. A slower broker has delivered less, so the check cannot fail for slowness.
            let more = Duration::from_millis(300);
            while let Ok(delivery) = tokio::time::timeout(more, subscription.next()).await {
                held.push(delivery.expect("the broker is open"));
            }
            assert!(held.len() * BODY <= LIMIT, "{} of {BODY} bytes", held.len());
            let PrefetchUsage {
                deliveries, bytes, ..
            } = broker.prefetch_usage();
            // One more delivery may be under way.
            assert!(deliveries >= held.len() as u64, "{deliveries}");
            assert!((held.len() * BODY..=LIMIT).contains(&usize::try_from(bytes).unwrap_or(usize::MAX)));
            for delivery in held {
                assert!(!delivery.redelivered);
                assert!(missing.remove(&number_of(&delivery)), "{delivery:?} came twice");
                delivery.ack().await.expect("settled");
            }
        }
    })
    .await;
    let nothing_held = async || {
        matches!(
            broker.prefetch_usage(),
            PrefetchUsage {
                deliveries: 0,
                bytes: 0,
                ..
            }
        )
    };
    until("nothing is held", nothing_held).await;
}

/// Each message is delivered to one of two subscriptions, and both get some.
pub async fn subscriptions_compete(broker: &dyn Broker) {
    const MESSAGES: u64 = 100;
    let mut one = broker.subscribe(prefetch(1));
    let mut other = broker.subscribe(prefetch(1));
    publishing(broker, (0..MESSAGES).map(message), async {
        let mut arrived = BTreeSet::new();
        while arrived.len() < 100 {
            // Both subscriptions have a delivery before one is settled.
            let deliveries = [next(&mut *one).await, next(&mut *other).await];
            for delivery in deliveries {
                assert!(!delivery.redelivered);
                assert!(arrived.insert(number_of(&delivery)), "{delivery:?} came twice");
                delivery.ack().await.expect("settled");
            }
        }
    })
    .await;
    // The queue is empty for both.
    publishing(broker, [MESSAGES, MESSAGES + 1].map(message), async {
        let last = [next(&mut *one).await, next(&mut *other).await];
        for delivery in last {
            assert!(number_of(&delivery) >= MESSAGES, "unexpected: {delivery:?}");
            delivery.ack().await.expect("settled");
        }
    })
    .await;
}

/// `next` is cancel-safe: dropping its future at any point loses no delivery.
pub async fn given_up_next_loses_nothing(broker: &dyn Broker) {
    let mut subscription = broker.subscribe(prefetch(3));
    publishing(broker, (0..50).map(message), async {
        let mut arrived = BTreeSet::new();
        while arrived.len() < 50 {
            let patience = Duration::from_micros(100);
            if let Ok(delivery) = tokio::time::timeout(patience, subscription.next()).await {
                let delivery = delivery.expect("the broker is open");
                assert!(!delivery.redelivered);
                assert!(arrived.insert(number_of(&delivery)));
                delivery.ack().await.expect("settled");
            }
        }
    })
    .await;
}

/// A delivery can be settled after its subscription was dropped. Deliveries that the subscription had not returned go to others,
/// even while the delivery is unsettled.
pub async fn held_delivery_outlives_its_subscription(broker: &dyn Broker) {
    const MESSAGES: u64 = 8;
    let mut leaving = broker.subscribe(prefetch(10));
    publishing(broker, (1..=MESSAGES).map(message), async {
        let held = next(&mut *leaving).await;
        drop(leaving);
        let mut missing: BTreeSet<_> = (1..=MESSAGES).collect();
        assert!(missing.remove(&number_of(&held)));
        let mut staying = broker.subscribe(prefetch(10));
        while !missing.is_empty() {
            let other = next(&mut *staying).await;
            assert!(missing.remove(&number_of(&other)), "{other:?} came twice");
            other.ack().await.expect("settled");
        }
        nothing_left(broker, &mut *staying).await;
        held.ack().await.expect("settled");
        nothing_left(broker, &mut *staying).await;
    })
    .await;
}
