use std::collections::BTreeSet;

use bytes::Bytes;
use futures::FutureExt;

use test_patience::until;

use super::messages::{
    info, message, message_of, next, nothing_left, number_of, prefetch, publishing, ready,
};
use broker::Broker;

/// A message is delivered once, not marked as redelivered, and is gone when it is acknowledged.
pub async fn acknowledged_message_is_gone(broker: &dyn Broker) {
    let mut subscription = broker.subscribe(prefetch(10));
    let delivery = publishing(broker, [message(1)], async {
        let delivery = next(&mut *subscription).await;
        assert_eq!(number_of(&delivery), 1);
        assert!(!delivery.redelivered);
        delivery.ack().await
    });
    delivery.await.expect("settled");
    nothing_left(broker, &mut *subscription).await;
    let info = info(broker).await;
    assert_eq!((info.queued, info.dead), (0, 0));
    assert!(!info.version.is_empty());
}

/// Bodies arrive unchanged: with every byte value, empty, of one frame, of several frames.
pub async fn bodies_arrive_bit_for_bit(broker: &dyn Broker) {
    let bodies: Vec<Bytes> = [0, 1, 256, 19_000, 300_001]
        .into_iter()
        .map(|length| (0..=u8::MAX).cycle().take(length).collect())
        .collect();
    let mut subscription = broker.subscribe(prefetch(1));
    for (number, body) in (0..).zip(bodies) {
        let expected = body.clone();
        publishing(broker, [message_of(number, body)], async {
            let delivery = next(&mut *subscription).await;
            assert!(
                delivery.body == expected,
                "a body of {} bytes changed",
                expected.len()
            );
            delivery.ack().await.expect("settled");
        })
        .await;
    }
}

/// A thousand tasks publish at the same time: each gets its confirmation, and each message arrives.
pub async fn thousand_concurrent_publishes_arrive_once(broker: &dyn Broker) {
    const MESSAGES: u64 = 1000;
    let mut subscription = broker.subscribe(prefetch(100));
    publishing(broker, (0..MESSAGES).map(message), async {
        let mut arrived = BTreeSet::new();
        while arrived.len() < 1000 {
            // `redelivered` is not checked: a backend may take back a delivery on its way to a consumer.
            let delivery = next(&mut *subscription).await;
            assert!(arrived.insert(number_of(&delivery)), "{delivery:?} came twice");
            delivery.ack().await.expect("settled");
        }
    })
    .await;
    nothing_left(broker, &mut *subscription).await;
}

/// A publish whose caller has stopped waiting does not keep its permit forever.
pub async fn given_up_publishes_wedge_nothing(broker: &dyn Broker) {
    const GIVEN_UP: u64 = 2000;
    ready(broker).await;
    let publisher = broker.publisher();
    for number in 0..GIVEN_UP {
        // Polled once, then dropped.
        let _ = publisher.publish(&message(number)).now_or_never();
    }
    let mut subscription = broker.subscribe(prefetch(100));
    publishing(broker, [message(GIVEN_UP)], async {
        loop {
            let delivery = next(&mut *subscription).await;
            let number = number_of(&delivery);
            delivery.ack().await.expect("settled");
            if number == GIVEN_UP {
                break;
            }
        }
    })
    .await;
    until("the queue is empty", async || info(broker).await.queued == 0).await;
}
