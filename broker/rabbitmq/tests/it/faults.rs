//! Brokers that die, freeze, close connections and run out of memory. Each test has a broker of its own. A start takes
//! seconds, so one test covers several cases.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker::{Broker, LinkState, LinkStatistics, PublishError, Publisher};
use broker_rabbitmq::RabbitMqBroker;
use futures::{FutureExt, future::join_all};
use test_patience::{soon, until};
use test_servers::RabbitMqServer;
use tokio_util::sync::CancellationToken;

use crate::{
    messages::{batch, consume_all, id_of, next, publish_until_confirmed, subscribe},
    servers::{connect_to, private_server, settings},
    waiting::{consume_link, is_blocked, is_down, publish_link},
};

/// The time limit of a publish that is expected to fail. Longer than a confirmation takes, so that attempts can succeed.
const SHORT: Duration = Duration::from_secs(10);

/// Publishes and consumes before, during and after `fault`. Checks that every message arrives and that the fault had an effect.
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
    let publisher = broker.publisher();
    let failures = Arc::new(AtomicUsize::new(0));
    let publishing = publish_until_confirmed(Arc::clone(&publisher), messages, Arc::clone(&failures));
    let publishing = tokio::spawn(publishing);

    let mut seen = BTreeSet::new();
    for _ in 0..BEFORE_AND_AFTER {
        let delivery = next(&mut *subscription).await;
        seen.insert(id_of(&delivery));
        delivery.ack().await.unwrap();
    }
    // Deliveries are consumed meanwhile, so that a fault which begins late leaves no backlog.
    let mut faulting = std::pin::pin!(fault(server));
    loop {
        tokio::select! {
            () = &mut faulting => break,
            delivery = subscription.next() => {
                let delivery = delivery.expect("the broker is open");
                seen.insert(id_of(&delivery));
                let _ = delivery.ack().await;
            }
        }
    }
    // The fault may take effect a moment later. Only deliveries after both links were replaced came after the fault.
    let is_felt = || {
        failures.load(Ordering::Relaxed) > 0
            && publisher.statistics().reconnects > 0
            && broker.consume_statistics().reconnects > 0
    };
    soon("consuming again", async {
        let mut after = 0;
        while after < BEFORE_AND_AFTER {
            let delivery = next(&mut *subscription).await;
            after += usize::from(is_felt());
            seen.insert(id_of(&delivery));
            let _ = delivery.ack().await;
        }
    })
    .await;
    stop.cancel();
    soon("all is confirmed", publishing).await.unwrap();
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
    let server = private_server().await;
    // RabbitMQ stores the location of a new quorum queue only some seconds after the declaration. If it is killed before, the
    // queue exists and never works again. An orderly stop stores it at once.
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
async fn nothing_is_lost_or_piles_up_when_the_broker_closes_all_connections() {
    let server = private_server().await;
    deliveries_that_nobody_takes_do_not_pile_up_over_lost_connections(&server).await;
    nothing_is_lost(&server, async |server| {
        server.close_all_connections("a fault").await.unwrap();
    })
    .await;
}

/// Each new connection delivers the same messages again; only one copy of each stays in memory.
async fn deliveries_that_nobody_takes_do_not_pile_up_over_lost_connections(server: &RabbitMqServer) {
    const MESSAGES: u64 = 3;
    let broker = connect_to(&server.create_vhost().await.unwrap());
    publish_link(&broker, LinkState::is_ready).await;
    publish_until_confirmed(broker.publisher(), (0..MESSAGES).map(batch), Arc::default()).await;
    let mut subscription = subscribe(&broker, 10);
    for reconnects in 0..3 {
        until("all is delivered, and is here once", async || {
            broker.consume_statistics().reconnects >= reconnects
                && broker.prefetch_usage().deliveries == MESSAGES
        })
        .await;
        server.close_all_connections("a fault").await.unwrap();
    }
    let missing = (0..MESSAGES).map(|number| batch(number).id).collect();
    consume_all(&mut *subscription, missing).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_can_be_left_and_is_noticed_and_recovered_from() {
    let server = private_server().await;
    let mut settings = settings(server.amqp_url());
    settings.heartbeat_seconds = 3;
    settings.publish_timeout = SHORT;
    let broker = RabbitMqBroker::start(settings);
    let mut subscription = subscribe(&broker, 10);
    let leaving = connect_to(&server.create_vhost().await.unwrap());
    let mut left = subscribe(&leaving, 10);
    for broker in [&broker, &leaving] {
        consume_link(broker, LinkState::is_ready).await;
        publish_link(broker, LinkState::is_ready).await;
    }
    let (publisher, message) = (leaving.publisher(), batch(1));
    let mut in_flight = publisher.publish(&message);

    server.freeze().await.unwrap();
    assert!(in_flight.as_mut().now_or_never().is_none());
    // Closing has a time limit, also where the broker does not answer.
    let leave = async {
        soon("the end", leaving.close()).await;
        assert!(soon("the end of the subscription", left.next()).await.is_none());
        soon("an answer", in_flight).await.unwrap_err();
    };
    let notice = async {
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
    };
    tokio::join!(leave, notice);

    server.thaw().unwrap();
    let messages = vec![batch(1), batch(2)];
    let ids = messages.iter().map(|message| message.id).collect();
    publish_until_confirmed(broker.publisher(), messages, Arc::default()).await;
    consume_all(&mut *subscription, ids).await;
    assert!(broker.publisher().statistics().reconnects > 0);
    assert!(broker.consume_statistics().reconnects > 0);
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_blocks_publishing_but_not_consuming_and_loses_nothing() {
    let server = private_server().await;
    a_memory_alarm_blocks_publishing_but_not_consuming(&server).await;
    a_memory_alarm_in_mid_flow_loses_nothing(&server).await;
}

async fn begin_alarm(server: &RabbitMqServer) {
    server
        .rabbitmqctl(&["set_vm_memory_high_watermark", "0"])
        .await
        .unwrap();
}

async fn end_alarm(server: &RabbitMqServer) {
    server
        .rabbitmqctl(&["set_vm_memory_high_watermark", "0.9"])
        .await
        .unwrap();
}

/// Publishes one message again and again until the broker blocks the connection. The broker blocks a connection only when it
/// publishes, and the alarm starts a moment after it was set. Returns the number of unconfirmed attempts.
async fn publish_until_blocked(publisher: &dyn Publisher, number: u64) -> usize {
    let mut unconfirmed = 0;
    until("the broker blocks", async || {
        unconfirmed += usize::from(publisher.publish(&batch(number)).await.is_err());
        is_blocked(&publisher.link())
    })
    .await;
    unconfirmed
}

async fn a_memory_alarm_blocks_publishing_but_not_consuming(server: &RabbitMqServer) {
    const MAX_UNCONFIRMED: usize = 4;
    let mut settings = settings(&server.create_vhost().await.unwrap());
    settings.max_unconfirmed = NonZeroUsize::new(MAX_UNCONFIRMED).unwrap();
    settings.publish_timeout = SHORT;
    let broker = RabbitMqBroker::start(settings);
    publish_link(&broker, LinkState::is_ready).await;
    let publisher = broker.publisher();
    publish_until_confirmed(Arc::clone(&publisher), [batch(0)], Arc::default()).await;

    begin_alarm(server).await;
    let met = publish_until_blocked(&*publisher, 1).await;
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
    // The message that met the alarm holds one permit. It holds more where the broker blocked the connection late.
    assert!(
        (MAX_UNCONFIRMED.saturating_sub(met)..MAX_UNCONFIRMED).contains(&unconfirmed),
        "{unconfirmed}, while {met} were before"
    );
    assert_eq!(unavailable, messages.len() - unconfirmed);
    let mut subscription = subscribe(&broker, 10);
    let delivery = next(&mut *subscription).await;
    delivery.ack().await.unwrap();
    assert!(broker.consume_link().is_ready());

    end_alarm(server).await;
    publish_link(&broker, LinkState::is_ready).await;
    let ids = messages.iter().map(|message| message.id).collect();
    publish_until_confirmed(publisher, messages, Arc::default()).await;
    consume_all(&mut *subscription, ids).await;
    broker.close().await;
}

/// Publishes that are unconfirmed when the alarm starts are confirmed after it; meanwhile the queue is emptied.
async fn a_memory_alarm_in_mid_flow_loses_nothing(server: &RabbitMqServer) {
    const QUEUED: u64 = 200;
    const MESSAGES: u64 = 1000;
    let mut settings = settings(&server.create_vhost().await.unwrap());
    settings.publish_timeout = SHORT;
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
    let in_flow = tokio::spawn(in_flow);
    begin_alarm(server).await;
    // All messages may have been published before the alarm took effect.
    publish_until_blocked(&*publisher, MESSAGES).await;
    let one_more = publish_until_confirmed(Arc::clone(&publisher), [batch(MESSAGES)], Arc::clone(&failures));
    let one_more = tokio::spawn(one_more);
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
    until("a publish waits in vain", async || {
        failures.load(Ordering::Relaxed) > 0
    })
    .await;

    end_alarm(server).await;
    publish_link(&broker, LinkState::is_ready).await;
    let blocked = publisher.statistics().blocked;
    soon("all is confirmed", async {
        in_flow.await.unwrap();
        one_more.await.unwrap();
    })
    .await;
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
