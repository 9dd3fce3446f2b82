//! Queues that exist and do not do their work: full, silent, without the consumer that believes in them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{Broker, LinkState, PublishError};
use broker_rabbitmq::RabbitMqBroker;
use test_servers::RabbitMqServer;
use tokio::sync::OnceCell;

use crate::{
    messages::{batch, consume_all, id_of, next, publish_until_confirmed, subscribe},
    servers::{QUEUE, connect_to, settings},
    waiting::{consume_link, is_down, publish_link, soon},
};

/// A node that may be administered, whoever's the tests otherwise use.
async fn server() -> &'static RabbitMqServer {
    static SERVER: OnceCell<RabbitMqServer> = OnceCell::const_new();
    SERVER
        .get_or_init(|| async { RabbitMqServer::start().await.unwrap() })
        .await
}

fn vhost_of(url: &str) -> &str {
    url.rsplit_once('/').expect("a URL with a virtual host").1
}

/// Runs Erlang on the node, with the queue as `Queue`.
async fn with_queue(server: &RabbitMqServer, url: &str, expression: &str) {
    let lookup = format!(
        "{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{}\">>, queue, <<\"{QUEUE}\">>)), {expression}",
        vhost_of(url)
    );
    let said = server.rabbitmqctl(&["eval", &lookup]).await.unwrap();
    assert!(said.contains("ok"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_takes_again_when_there_is_room() {
    let server = server().await;
    let url = server.create_vhost().await.unwrap();
    let broker = connect_to(&url);
    publish_link(&broker, LinkState::is_ready).await;
    let full = r#"{"max-length": 3, "overflow": "reject-publish"}"#;
    server
        .rabbitmqctl(&[
            "set_policy",
            "-p",
            vhost_of(&url),
            "--apply-to",
            "queues",
            "full",
            QUEUE,
            full,
        ])
        .await
        .unwrap();
    let publisher = broker.publisher();
    let mut accepted = 0;
    let refused = soon("a refusal", async {
        loop {
            match publisher.publish(&batch(accepted)).await {
                Ok(()) => accepted += 1,
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(
        matches!(refused, PublishError::Refused { .. }),
        "found {refused:?}"
    );
    assert!(publisher.link().is_ready(), "the link is not at fault");

    // While it is full, nothing that was accepted is lost, and nothing that was refused is in it.
    let again = publish_until_confirmed(Arc::clone(&publisher), vec![batch(accepted)], Arc::default());
    let again = tokio::spawn(again);
    let mut subscription = subscribe(&broker, 1);
    for number in 0..=accepted {
        let delivery = next(&mut *subscription).await;
        assert_eq!(id_of(&delivery), batch(number).id);
        delivery.ack().await.unwrap();
    }
    soon("accepted", again).await.unwrap();
    assert_eq!(publisher.statistics().reconnects, 0);
    broker.close().await;
}

/// The channel stays open and the stream of deliveries silent: no event tells the consumer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_the_queue_has_forgotten_begins_anew() {
    let server = server().await;
    let url = server.create_vhost().await.unwrap();
    let broker = connect_to(&url);
    let mut subscription = subscribe(&broker, 10);
    consume_link(&broker, LinkState::is_ready).await;
    publish_link(&broker, LinkState::is_ready).await;
    broker.publisher().publish(&batch(1)).await.unwrap();
    next(&mut *subscription).await.ack().await.unwrap();
    assert_eq!(broker.consume_statistics().reconnects, 0);

    with_queue(
        server,
        &url,
        "[ra:process_command(
             amqqueue:get_pid(Queue),
             rabbit_fifo:make_checkout({element(2, Consumer), element(1, Consumer)}, cancel, #{})
         ) || Consumer <- rabbit_amqqueue:consumers(Queue)].",
    )
    .await;
    broker.publisher().publish(&batch(2)).await.unwrap();
    let delivery = next(&mut *subscription).await;
    assert_eq!(id_of(&delivery), batch(2).id);
    delivery.ack().await.unwrap();
    assert_eq!(broker.consume_statistics().reconnects, 1);
    broker.close().await;
}

/// A queue whose process is gone, or does nothing: as after a `kill -9` right after the declaration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_does_not_answer_is_named_and_waited_for() {
    const STOPPED: [&str; 2] = [
        "ra:stop_server(quorum_queues, amqqueue:get_pid(Queue)).",
        "ra:restart_server(quorum_queues, amqqueue:get_pid(Queue)).",
    ];
    const SUSPENDED: [&str; 2] = [
        "sys:suspend(element(1, amqqueue:get_pid(Queue))).",
        "sys:resume(element(1, amqqueue:get_pid(Queue))).",
    ];
    let server = server().await;
    for ([fault, cure], said) in [
        (STOPPED, format!("could not consume from queue {QUEUE}")),
        (SUSPENDED, format!("delete_queue {QUEUE}")),
    ] {
        let url = server.create_vhost().await.unwrap();
        let broker = connect_to(&url);
        publish_link(&broker, LinkState::is_ready).await;
        broker.publisher().publish(&batch(1)).await.unwrap();
        with_queue(server, &url, fault).await;

        let mut subscription = subscribe(&broker, 1);
        let LinkState::Down { reason } = consume_link(&broker, is_down).await else {
            panic!("a queue that does nothing has a consumer");
        };
        assert!(reason.contains(&said), "{reason}");
        with_queue(server, &url, cure).await;
        let delivery = next(&mut *subscription).await;
        assert_eq!(id_of(&delivery), batch(1).id);
        delivery.ack().await.unwrap();
        broker.close().await;
    }
}

/// The queue stops in the middle: neither its publishers nor its consumers hear of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_stops_in_mid_flow_is_recovered_from() {
    let server = server().await;
    let url = server.create_vhost().await.unwrap();
    let mut settings = settings(&url);
    settings.publish_timeout = Duration::from_secs(1);
    let broker = RabbitMqBroker::start(settings);
    let mut subscription = subscribe(&broker, 10);
    consume_link(&broker, LinkState::is_ready).await;
    publish_link(&broker, LinkState::is_ready).await;
    with_queue(
        server,
        &url,
        "ra:stop_server(quorum_queues, amqqueue:get_pid(Queue)).",
    )
    .await;
    broker
        .publisher()
        .publish(&batch(1))
        .await
        .expect_err("nothing can take responsibility");
    with_queue(
        server,
        &url,
        "ra:restart_server(quorum_queues, amqqueue:get_pid(Queue)).",
    )
    .await;
    let healed = Instant::now();
    let again = publish_until_confirmed(broker.publisher(), vec![batch(1), batch(2)], Arc::default());
    soon("confirmed", again).await;
    let ids = [1, 2].map(|number| batch(number).id).into();
    consume_all(&mut *subscription, ids).await;
    assert!(
        healed.elapsed() < Duration::from_secs(30),
        "recovery took {:?}",
        healed.elapsed()
    );
    broker.close().await;
}
