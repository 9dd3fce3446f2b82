use test_patience::soon;

use super::messages::{message, next, prefetch, publishing, ready};
use broker::{Broker, PublishError};

/// After `close` subscriptions end, new ones included, and publishing is refused.
pub async fn close_ends_subscriptions_and_publishing(broker: &dyn Broker) {
    let publisher = broker.publisher();
    let mut idle = broker.subscribe(prefetch(1));
    let mut used = broker.subscribe(prefetch(1));
    publishing(broker, [message(1)], async {
        let delivery = tokio::select! {
            biased;
            delivery = next(&mut *idle) => delivery,
            delivery = next(&mut *used) => delivery,
        };
        delivery.ack().await.expect("settled");
    })
    .await;

    soon("the end", broker.close()).await;
    for subscription in [&mut idle, &mut used, &mut broker.subscribe(prefetch(1))] {
        let ended = soon("the end of a subscription", subscription.next()).await;
        assert!(ended.is_none(), "unexpected: {ended:?}");
    }
    let refused = soon("a refusal", publisher.publish(&message(2))).await;
    assert!(
        matches!(refused, Err(PublishError::Unavailable { .. })),
        "found {refused:?}"
    );
    assert!(!publisher.link().is_ready());
    assert!(!broker.consume_link().is_ready());
    soon("a second close", broker.close()).await;
}

/// A delivery that is unsettled at `close` can no longer be settled. The broker or the publisher still has the message.
pub async fn settling_after_close_fails(broker: &dyn Broker) {
    ready(broker).await;
    let publisher = broker.publisher();
    let mut subscription = broker.subscribe(prefetch(2));
    let published = tokio::spawn(async move { publisher.publish(&message(1)).await });
    let held = next(&mut *subscription).await;
    soon("the end", broker.close()).await;
    held.ack().await.expect_err("the link is gone");
    // The publish was confirmed before or failed by the close; it does not wait forever.
    let _ = soon("an answer", published)
        .await
        .expect("publishing does not panic");
}
