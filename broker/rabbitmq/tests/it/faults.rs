//! Brokers that die, freeze, close connections and run out of memory. Each test has a broker for itself.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use broker::{Broker, LinkState, LinkStatistics, PublishError};
use broker_rabbitmq::RabbitMqBroker;
use futures::future::join_all;
use test_servers::RabbitMqServer;
use tokio_util::sync::CancellationToken;

use crate::{
    messages::{batch, consume_all, id_of, next, publish_until_confirmed, subscribe},
    servers::{connect_to, settings},
    waiting::{consume_link, is_blocked, is_down, publish_link, soon},
};

/// What the pipeline promises.
const RECOVERY: Duration = Duration::from_secs(30);

async fn server() -> RabbitMqServer {
    RabbitMqServer::start()
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Publishes and consumes before, while and after `fault` happens; nothing may be missing at the end, and the fault must
/// have been felt.
async fn nothing_is_lost(server: &RabbitMqServer, fault: impl AsyncFn(&RabbitMqServer)) {
    const BEFORE_AND_AFTER: usize = 500;
    let broker = connect_to(server.amqp_url());
    let mut subscription = subscribe(&broker, 128);
    publish_link(&broker, LinkState::is_ready).await;
    let (published, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let messages = {
        let (published, stop) = (Arc::clone(&published), stop.clone());
        (0..)
            .map(batch)
            .take_while(move |_| !stop.is_cancelled())
            .inspect(move |_| {
                published.fetch_add(1, Ordering::Relaxed);
            })
    };
    let failures = Arc::new(AtomicUsize::new(0));
    let publishing = publish_until_confirmed(broker.publisher(), messages, Arc::clone(&failures));
    let publishing = tokio::spawn(publishing);

    let mut seen = BTreeSet::new();
    for _ in 0..BEFORE_AND_AFTER {
        let delivery = next(&mut *subscription).await;
        seen.insert(id_of(&delivery));
        delivery.ack().await.unwrap();
    }
    fault(server).await;
    let healed = Instant::now();
    for _ in 0..BEFORE_AND_AFTER {
        let delivery = next(&mut *subscription).await;
        seen.insert(id_of(&delivery));
        let _ = delivery.ack().await;
    }
    assert!(
        healed.elapsed() < RECOVERY,
        "consuming again took {:?}",
        healed.elapsed()
    );
    stop.cancel();
    soon("all is confirmed", publishing).await.unwrap();
    assert!(failures.load(Ordering::Relaxed) > 0, "the fault was not felt");
    let published = published.load(Ordering::Relaxed);
    let missing = (0..published)
        .map(|number| batch(number).id)
        .filter(|id| !seen.contains(id))
        .collect();
    consume_all(&mut *subscription, missing).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_is_killed_and_started_again() {
    let server = server().await;
    // RabbitMQ writes down only some seconds later where it keeps a new quorum queue; killed before that, it has the
    // queue and can never use it again. Ending in good order writes it down at once.
    let declaring = connect_to(server.amqp_url());
    publish_link(&declaring, LinkState::is_ready).await;
    declaring.close().await;
    server.restart().await.unwrap();
    nothing_is_lost(&server, async |server| {
        server.kill().await.unwrap();
        server.start_again().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_closes_all_connections() {
    let server = server().await;
    nothing_is_lost(&server, async |server| {
        server.close_all_connections("a fault").await.unwrap();
    })
    .await;
}

/// Each connection delivers anew what nobody takes; it is in memory once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_takes_does_not_pile_up_over_lost_connections() {
    const MESSAGES: u64 = 3;
    let server = server().await;
    let broker = connect_to(server.amqp_url());
    publish_link(&broker, LinkState::is_ready).await;
    publish_until_confirmed(broker.publisher(), (0..MESSAGES).map(batch), Arc::default()).await;
    let mut subscription = subscribe(&broker, 10);
    for reconnects in 0..3 {
        soon("all is delivered", async {
            let statistics = || broker.consume_statistics();
            while statistics().reconnects != reconnects || broker.holdings().deliveries != MESSAGES {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        server.close_all_connections("a fault").await.unwrap();
    }
    let missing = (0..MESSAGES).map(|number| batch(number).id).collect();
    consume_all(&mut *subscription, missing).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_noticed_and_recovered_from() {
    let server = server().await;
    let mut settings = settings(server.amqp_url());
    settings.heartbeat_seconds = 2;
    settings.publish_timeout = Duration::from_secs(1);
    let broker = RabbitMqBroker::start(settings);
    let mut subscription = subscribe(&broker, 10);
    consume_link(&broker, LinkState::is_ready).await;
    publish_link(&broker, LinkState::is_ready).await;

    server.freeze().await.unwrap();
    let unconfirmed = broker.publisher().publish(&batch(1)).await;
    assert!(
        matches!(unconfirmed, Err(PublishError::Unconfirmed { .. })),
        "found {unconfirmed:?}"
    );
    publish_link(&broker, is_down).await;
    consume_link(&broker, is_down).await;
    let unavailable = broker.publisher().publish(&batch(2)).await;
    assert!(
        matches!(unavailable, Err(PublishError::Unavailable { .. })),
        "found {unavailable:?}"
    );

    server.thaw().unwrap();
    let thawed = Instant::now();
    let messages = vec![batch(1), batch(2)];
    let ids = messages.iter().map(|message| message.id).collect();
    publish_until_confirmed(broker.publisher(), messages, Arc::default()).await;
    consume_all(&mut *subscription, ids).await;
    assert!(
        thawed.elapsed() < RECOVERY,
        "recovery took {:?}",
        thawed.elapsed()
    );
    assert!(broker.publisher().statistics().reconnects > 0);
    assert!(broker.consume_statistics().reconnects > 0);
    broker.close().await;
}

/// Closing is bounded also where nobody answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_can_be_left() {
    let server = server().await;
    let broker = connect_to(server.amqp_url());
    let mut subscription = subscribe(&broker, 10);
    publish_link(&broker, LinkState::is_ready).await;
    consume_link(&broker, LinkState::is_ready).await;
    server.freeze().await.unwrap();
    let publisher = broker.publisher();
    let in_flight = tokio::spawn(async move { publisher.publish(&batch(1)).await });
    let asked = Instant::now();
    broker.close().await;
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "closing took {:?}",
        asked.elapsed()
    );
    assert!(soon("the end", subscription.next()).await.is_none());
    soon("an answer", in_flight).await.unwrap().unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_blocks_publishing_but_not_consuming() {
    const WINDOW: usize = 4;
    let server = server().await;
    let mut settings = settings(server.amqp_url());
    settings.publish_window = NonZeroUsize::new(WINDOW).unwrap();
    settings.publish_timeout = Duration::from_secs(1);
    let broker = RabbitMqBroker::start(settings);
    publish_link(&broker, LinkState::is_ready).await;
    let publisher = broker.publisher();
    publisher.publish(&batch(0)).await.unwrap();

    server
        .rabbitmqctl(&["set_vm_memory_high_watermark", "0"])
        .await
        .unwrap();
    // The broker says so to a connection when it publishes.
    while publisher.publish(&batch(1)).await.is_ok() {}
    publish_link(&broker, is_blocked).await;
    let messages: Vec<_> = (2..10).map(batch).collect();
    let attempts = messages.iter().map(|message| publisher.publish(message));
    let (mut unconfirmed, mut unavailable) = (0, 0);
    for attempt in join_all(attempts).await {
        match attempt {
            Err(PublishError::Unconfirmed { .. }) => unconfirmed += 1,
            Err(PublishError::Unavailable { reason }) => {
                assert!(reason.contains("blocks"), "{reason}");
                unavailable += 1;
            }
            other => panic!("found {other:?}"),
        }
    }
    // One place is taken by the message that met the alarm.
    assert_eq!(
        (unconfirmed, unavailable),
        (WINDOW - 1, messages.len() - (WINDOW - 1))
    );
    let mut subscription = subscribe(&broker, 10);
    let delivery = next(&mut *subscription).await;
    delivery.ack().await.unwrap();
    assert!(broker.consume_link().is_ready());

    server
        .rabbitmqctl(&["set_vm_memory_high_watermark", "0.9"])
        .await
        .unwrap();
    publish_link(&broker, LinkState::is_ready).await;
    let ids = messages.iter().map(|message| message.id).collect();
    publish_until_confirmed(publisher, messages, Arc::default()).await;
    consume_all(&mut *subscription, ids).await;
    broker.close().await;
}

/// What is in flight when the alarm comes is confirmed after it; meanwhile the queue is emptied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_in_mid_flow_loses_nothing() {
    const QUEUED: u64 = 500;
    const MESSAGES: u64 = 3000;
    let server = server().await;
    let mut settings = settings(server.amqp_url());
    settings.publish_timeout = Duration::from_secs(1);
    let broker = RabbitMqBroker::start(settings);
    publish_link(&broker, LinkState::is_ready).await;
    let publisher = broker.publisher();
    publish_until_confirmed(Arc::clone(&publisher), (0..QUEUED).map(batch), Arc::default()).await;
    assert_eq!(publisher.statistics(), LinkStatistics::default());

    let failures = Arc::new(AtomicUsize::new(0));
    let in_flow = publish_until_confirmed(
        Arc::clone(&publisher),
        (QUEUED..MESSAGES).map(batch),
        Arc::clone(&failures),
    );
    let (in_flow, alarm) = (
        tokio::spawn(in_flow),
        server.rabbitmqctl(&["set_vm_memory_high_watermark", "0"]),
    );
    alarm.await.unwrap();
    // It may have been faster than the alarm.
    let one_more = publish_until_confirmed(Arc::clone(&publisher), [batch(MESSAGES)], Arc::clone(&failures));
    let one_more = tokio::spawn(one_more);
    publish_link(&broker, is_blocked).await;
    let before = publisher.statistics().blocked;
    let mut subscription = subscribe(&broker, 16);
    let mut missing: BTreeSet<_> = (0..=MESSAGES).map(|number| batch(number).id).collect();
    for _ in 0..QUEUED {
        let delivery = next(&mut *subscription).await;
        missing.remove(&id_of(&delivery));
        delivery.ack().await.expect("acknowledgements are not blocked");
    }
    assert!(is_blocked(&publisher.link()) && broker.consume_link().is_ready());
    assert!(publisher.statistics().blocked > before, "it grows while it lasts");
    soon("a publish that waits in vain", async {
        while failures.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;

    server
        .rabbitmqctl(&["set_vm_memory_high_watermark", "0.9"])
        .await
        .unwrap();
    let healed = Instant::now();
    publish_link(&broker, LinkState::is_ready).await;
    let blocked = publisher.statistics().blocked;
    soon("all is confirmed", async {
        in_flow.await.unwrap();
        one_more.await.unwrap();
    })
    .await;
    assert!(
        healed.elapsed() < RECOVERY,
        "recovery took {:?}",
        healed.elapsed()
    );
    consume_all(&mut *subscription, missing).await;
    assert_eq!(
        publisher.statistics(),
        LinkStatistics {
            reconnects: 0,
            blocked
        }
    );
    broker.close().await;
}
