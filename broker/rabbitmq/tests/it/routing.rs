//! Queues and bindings that are deleted while they are used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker::{Broker, LinkState, PublishError};
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{QueueBindOptions, QueueDeleteOptions, QueuePurgeOptions},
    types::FieldTable,
};
use test_patience::{found, soon};

use crate::{
    messages::{batch, consume_all, next, publish_until_confirmed, subscribe},
    servers::{QUEUE, connect_to, empty_vhost},
    waiting::{consume_link, publish_link},
};

struct Operator {
    _connection: Connection,
    channel: Channel,
}

impl Operator {
    async fn at(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self {
            _connection: connection,
            channel,
        }
    }

    async fn bind(&self) {
        let (exchange, key) = ("llm.batches".into(), "batch.#".into());
        let options = QueueBindOptions::default();
        let bound = self
            .channel
            .queue_bind(QUEUE.into(), exchange, key, options, FieldTable::default());
        bound.await.unwrap();
    }

    async fn unbind(&self) {
        let (exchange, key) = ("llm.batches".into(), "batch.#".into());
        let unbound = self
            .channel
            .queue_unbind(QUEUE.into(), exchange, key, FieldTable::default());
        unbound.await.unwrap();
    }

    async fn delete_queue(&self) {
        self.channel
            .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unroutable_message_is_refused_until_the_topology_is_back() {
    let url = empty_vhost().await;
    let broker = connect_to(&url);
    publish_link(&broker, LinkState::is_ready).await;
    let operator = Operator::at(&url).await;
    let publisher = broker.publisher();
    for attempt in 0..2 {
        // An earlier refusal may still cause another declaration of the topology. Then the binding is removed again.
        found("a refusal", async || {
            if attempt == 0 {
                operator.unbind().await;
            } else {
                operator.delete_queue().await;
            }
            // On a busy machine the link may be about to be replaced.
            publisher
                .publish(&batch(attempt))
                .await
                .err()
                .filter(|error| matches!(error, PublishError::Refused { .. }))
        })
        .await;
        let again = publish_until_confirmed(Arc::clone(&publisher), vec![batch(attempt)], Arc::default());
        soon("the topology is declared again", again).await;
    }
    broker.close().await;
}

/// The AMQP client attributes returned messages to the wrong publishes (see `publishing::confirm_resolver`). Every confirmed
/// message must be in the queue all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_while_bindings_vanish_is_in_the_queue() {
    const MESSAGES: u64 = 5000;
    const BOUND_FOR: Duration = Duration::from_millis(10);
    let url = empty_vhost().await;
    let broker = connect_to(&url);
    publish_link(&broker, LinkState::is_ready).await;
    let operator = Operator::at(&url).await;
    let (published, failures) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let messages = {
        let (published, failures) = (Arc::clone(&published), Arc::clone(&failures));
        // Until at least one was refused.
        (0..)
            .take_while(move |number| *number < MESSAGES || failures.load(Ordering::Relaxed) == 0)
            .inspect(move |_| {
                published.fetch_add(1, Ordering::Relaxed);
            })
            .map(batch)
    };

    let publishing = publish_until_confirmed(broker.publisher(), messages, failures);
    let mut publishing = tokio::spawn(publishing);
    soon("all is confirmed", async {
        loop {
            operator.unbind().await;
            operator.bind().await;
            if let Ok(published) = tokio::time::timeout(BOUND_FOR, &mut publishing).await {
                return published.unwrap();
            }
        }
    })
    .await;
    let ids = (0..published.load(Ordering::Relaxed)).map(|number| batch(number).id);
    let mut subscription = subscribe(&broker, 100);
    consume_all(&mut *subscription, ids.collect()).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_survives_the_deletion_of_its_queue() {
    let url = empty_vhost().await;
    let broker = connect_to(&url);
    let mut subscription = subscribe(&broker, 10);
    consume_link(&broker, LinkState::is_ready).await;
    publish_link(&broker, LinkState::is_ready).await;
    broker.publisher().publish(&batch(1)).await.unwrap();
    let stale = next(&mut *subscription).await;

    let operator = Operator::at(&url).await;
    operator.delete_queue().await;
    let again = publish_until_confirmed(broker.publisher(), vec![batch(2)], Arc::default());
    soon("the queue is declared again", again).await;
    let fresh = next(&mut *subscription).await;
    assert_eq!(crate::messages::id_of(&fresh), batch(2).id);
    fresh.ack().await.unwrap();
    stale.ack().await.expect_err("its queue is gone");

    // A purge closes no connection: messages published after it arrive.
    operator
        .channel
        .queue_purge(QUEUE.into(), QueuePurgeOptions::default())
        .await
        .unwrap();
    broker.publisher().publish(&batch(3)).await.unwrap();
    next(&mut *subscription).await.ack().await.unwrap();
    broker.close().await;
}
