//! The prefetch limit in bytes. RabbitMQ has no such limit, so the prefetch in messages follows the sizes of the bodies.

use std::{
    collections::BTreeSet,
    num::{NonZeroU16, NonZeroUsize},
    sync::Arc,
};

use broker::{Broker, Delivery, LinkState, OutgoingMessage, Prefetch, Subscription};
use broker_rabbitmq::RabbitMqBroker;
use shared_types::BatchId;
use test_patience::until;

use crate::{
    messages::{batch, id_of, next, publish_until_confirmed},
    servers::{connect_to, connected, empty_vhost},
    waiting::{publish_link, until_queued},
};

/// A quarter of the default, with bodies of a quarter of the usual sizes, because the queue writes every byte to disk.
const BUDGET: usize = 16 * 1024 * 1024;
const LIMIT: Prefetch = Prefetch {
    messages: NonZeroU16::new(256).expect("not zero"),
    bytes: NonZeroUsize::new(BUDGET).expect("not zero"),
};
const LARGE: usize = 250_000;
/// The number of deliveries that are settled together, like a micro-batch.
const TOGETHER: usize = 128;

/// The `number`th message, padded with white space to about `bytes`.
fn sized(number: u64, bytes: usize) -> OutgoingMessage {
    let mut message = batch(number);
    let mut body = message.body.to_vec();
    body.resize(bytes.max(body.len()), b' ');
    message.body = body.into();
    message
}

async fn queue_up(broker: &RabbitMqBroker, messages: impl IntoIterator<Item = OutgoingMessage>) {
    publish_link(broker, LinkState::is_ready).await;
    publish_until_confirmed(broker.publisher(), messages, Arc::default()).await;
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<BatchId> {
    numbers.into_iter().map(|number| batch(number).id).collect()
}

/// Checks that exactly `prefetch` of the `queued` messages are delivered while none is settled. Publishes the message `more` and
/// adds it to `missing`.
async fn expect_unsettled(
    broker: &RabbitMqBroker,
    subscription: &mut dyn Subscription,
    prefetch: usize,
    queued: u64,
    more: OutgoingMessage,
    missing: &mut BTreeSet<BatchId>,
) -> Vec<Delivery> {
    let mut held = Vec::with_capacity(prefetch);
    while held.len() < prefetch {
        held.push(next(subscription).await);
    }
    let rest = queued - prefetch as u64;
    until_queued(broker, rest).await;
    // The queue may have this depth for a moment and deliver more after that. All are delivered before the next publish is
    // confirmed.
    missing.insert(more.id);
    queue_up(broker, [more]).await;
    until_queued(broker, rest + 1).await;
    until("the prefetch is used up", async || {
        broker.prefetch_usage().deliveries == prefetch as u64
    })
    .await;
    assert!(broker.prefetch_usage().prefetch <= prefetch as u64);
    held
}

/// Acknowledges the deliveries and removes their ids from `missing`: no id may be settled twice. `redelivered` is not checked,
/// because RabbitMQ sets it too where it takes back a delivery on its way to a cancelled consumer.
async fn settle(held: impl IntoIterator<Item = Delivery>, missing: &mut BTreeSet<BatchId>) {
    let acks = held.into_iter().map(|delivery| {
        assert!(missing.remove(&id_of(&delivery)), "came twice");
        delivery.ack()
    });
    for settled in futures::future::join_all(acks).await {
        settled.unwrap();
    }
}

async fn take_all(
    broker: &RabbitMqBroker,
    subscription: &mut dyn Subscription,
    missing: &mut BTreeSet<BatchId>,
) {
    let mut together = Vec::new();
    while missing.len() > together.len() {
        together.push(next(subscription).await);
        let prefetch_usage = broker.prefetch_usage();
        assert!(prefetch_usage.bytes <= BUDGET as u64, "{prefetch_usage:?}");
        if together.len() == TOGETHER || prefetch_usage.deliveries == together.len() as u64 {
            settle(std::mem::take(&mut together), missing).await;
        }
    }
    settle(together, missing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_large_bodies_stays_within_the_budget() {
    const MESSAGES: u64 = 300;
    let broker = connected().await;
    queue_up(&broker, (0..MESSAGES).map(|number| sized(number, LARGE))).await;
    let mut subscription = broker.subscribe(LIMIT);
    let mut missing = ids(0..MESSAGES);

    // The prefetch is fully used, because nothing is settled.
    let prefetch = BUDGET / 4 * 3 / LARGE;
    let more = sized(MESSAGES, LARGE);
    let held = expect_unsettled(
        &broker,
        &mut *subscription,
        prefetch,
        MESSAGES,
        more,
        &mut missing,
    )
    .await;
    settle(held, &mut missing).await;

    take_all(&broker, &mut *subscription, &mut missing).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_bodies_reach_the_whole_prefetch() {
    const MESSAGES: u64 = 600;
    let broker = connected().await;
    queue_up(&broker, (0..MESSAGES).map(|number| sized(number, 20_000))).await;
    let mut subscription = broker.subscribe(LIMIT);
    let mut missing = ids(0..MESSAGES);
    let prefetch = LIMIT.messages.get().into();
    let more = sized(MESSAGES, 20_000);
    let held = expect_unsettled(
        &broker,
        &mut *subscription,
        prefetch,
        MESSAGES,
        more,
        &mut missing,
    )
    .await;
    assert_eq!(broker.prefetch_usage().prefetch, u64::from(LIMIT.messages.get()));
    settle(held, &mut missing).await;
    take_all(&broker, &mut *subscription, &mut missing).await;
    broker.close().await;
}

/// Deliveries of cancelled consumers are settled like the others, and only once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn larger_bodies_shrink_the_prefetch_and_unsettled_deliveries_stay_valid() {
    const SMALL: u64 = 600;
    const MESSAGES: u64 = 800;
    let url = empty_vhost().await;
    let broker = connect_to(&url);
    queue_up(&broker, (0..SMALL).map(|number| sized(number, 20_000))).await;
    let mut subscription = broker.subscribe(LIMIT);
    let mut missing = ids(0..MESSAGES);
    let prefetch = LIMIT.messages.get().into();
    let more = sized(MESSAGES + 900, 20_000);
    let mut held = expect_unsettled(&broker, &mut *subscription, prefetch, SMALL, more, &mut missing).await;
    assert_eq!(broker.prefetch_usage().prefetch, u64::from(LIMIT.messages.get()));

    queue_up(&broker, (SMALL..MESSAGES).map(|number| sized(number, LARGE))).await;
    // The deliveries of the youngest consumers stay unsettled while those consumers are cancelled.
    let kept = held.split_off(TOGETHER);
    settle(held, &mut missing).await;
    while broker.prefetch_usage().prefetch > (BUDGET / LARGE) as u64 {
        settle([next(&mut *subscription).await], &mut missing).await;
    }
    settle(kept, &mut missing).await;
    take_all(&broker, &mut *subscription, &mut missing).await;
    assert!(missing.is_empty());
    assert!(broker.prefetch_usage().prefetch <= (BUDGET / LARGE) as u64);

    // The prefetch grows again when the large bodies are no longer recent.
    let more = MESSAGES..MESSAGES + 900;
    queue_up(&broker, more.clone().map(batch)).await;
    let mut missing = ids(more);
    for _ in 0..600 {
        settle([next(&mut *subscription).await], &mut missing).await;
    }
    let more = batch(MESSAGES + 901);
    let held = expect_unsettled(&broker, &mut *subscription, prefetch, 300, more, &mut missing).await;
    settle(held, &mut missing).await;
    take_all(&broker, &mut *subscription, &mut missing).await;
    assert_eq!(broker.consume_statistics().reconnects, 0);
    broker.close().await;

    // An unsettled message would be requeued and delivered first.
    const MARKER: u64 = u32::MAX as u64;
    let again = connect_to(&url);
    let mut subscription = again.subscribe(LIMIT);
    queue_up(&again, [batch(MARKER)]).await;
    settle([next(&mut *subscription).await], &mut ids([MARKER])).await;
    again.close().await;
}
