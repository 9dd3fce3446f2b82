//! Queues that exist and do not work: they are full, do not answer, or have forgotten their consumer.

use std::{sync::Arc, time::Duration};

use broker::{Broker, LinkState, PublishError};
use broker_rabbitmq::RabbitMqBroker;
use test_patience::{patience, soon, until};
use test_servers::RabbitMqServer;

use crate::{
    messages::{batch, consume_all, id_of, next, publish_until_confirmed, subscribe},
    servers::{QUEUE, connect_to, default_settings, private_server},
    waiting::{consume_link, publish_link},
};

/// The cases share one server, because a start takes seconds, and run at once, because they mostly wait for time limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_that_do_not_do_their_work_are_noticed_and_used_again() {
    const STOPPED: [&str; 2] = [
        "ra:stop_server(quorum_queues, amqqueue:get_pid(Queue)).",
        "ra:restart_server(quorum_queues, amqqueue:get_pid(Queue)).",
    ];
    const SUSPENDED: [&str; 2] = [
        "sys:suspend(element(1, amqqueue:get_pid(Queue))).",
        "sys:resume(element(1, amqqueue:get_pid(Queue))).",
    ];
    let server = &private_server().await;
    tokio::join!(
        a_full_queue_refuses_and_takes_again_when_there_is_room(server),
        a_consumer_that_the_queue_has_forgotten_begins_anew(server),
        a_queue_that_does_not_answer_is_named_and_waited_for(
            server,
            STOPPED,
            format!("could not consume from queue {QUEUE}"),
        ),
        a_queue_that_does_not_answer_is_named_and_waited_for(
            server,
            SUSPENDED,
            format!("delete_queue {QUEUE}"),
        ),
        a_queue_that_stops_in_mid_flow_is_recovered_from(server, STOPPED),
    );
}

fn vhost_of(url: &str) -> &str {
    url.rsplit_once('/').expect("a URL with a virtual host").1
}

/// Evaluates an Erlang expression on the node. The variable `Queue` is the queue.
async fn with_queue(server: &RabbitMqServer, url: &str, expression: &str) {
    let lookup = format!(
        "{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{}\">>, queue, <<\"{QUEUE}\">>)), {expression}",
        vhost_of(url)
    );
    let said = server.rabbitmqctl(&["eval", &lookup]).await.unwrap();
    assert!(said.contains("ok"), "{said}");
}

async fn a_full_queue_refuses_and_takes_again_when_there_is_room(server: &RabbitMqServer) {
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

    // The full queue holds every confirmed message and no refused one.
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

/// The broker forgets the consumer. The channel stays open and no event says so.
async fn a_consumer_that_the_queue_has_forgotten_begins_anew(server: &RabbitMqServer) {
    let url = server.create_vhost().await.unwrap();
    let mut settings = default_settings(&url);
    settings.probe_interval = Duration::from_millis(500);
    let broker = RabbitMqBroker::start(settings);
    let mut subscription = subscribe(&broker, 10);
    consume_link(&broker, LinkState::is_ready).await;
    publish_link(&broker, LinkState::is_ready).await;
    publish_until_confirmed(broker.publisher(), [batch(1)], Arc::default()).await;
    next(&mut *subscription).await.ack().await.unwrap();

    let before = broker.consume_statistics().reconnects;
    with_queue(
        server,
        &url,
        "[ra:process_command(
             amqqueue:get_pid(Queue),
             rabbit_fifo:make_checkout({element(2, Consumer), element(1, Consumer)}, cancel, #{})
         ) || Consumer <- rabbit_amqqueue:consumers(Queue)].",
    )
    .await;
    publish_until_confirmed(broker.publisher(), [batch(2)], Arc::default()).await;
    let delivery = next(&mut *subscription).await;
    assert_eq!(id_of(&delivery), batch(2).id);
    delivery.ack().await.unwrap();
    assert!(broker.consume_statistics().reconnects > before);
    broker.close().await;
}

/// A queue whose process is gone or hangs, as after a `kill -9` right after the declaration.
async fn a_queue_that_does_not_answer_is_named_and_waited_for(
    server: &RabbitMqServer,
    [fault, cure]: [&str; 2],
    said: String,
) {
    let url = server.create_vhost().await.unwrap();
    // The limit for the queue's answer is also the limit for connecting and declaring, which take long on a busy machine.
    let mut settings = default_settings(&url);
    settings.connect_timeout = patience() / 3;
    let broker = RabbitMqBroker::start(settings);
    publish_link(&broker, LinkState::is_ready).await;
    publish_until_confirmed(broker.publisher(), [batch(1)], Arc::default()).await;
    with_queue(server, &url, fault).await;

    let mut subscription = subscribe(&broker, 1);
    until(
        "a reason that names the queue",
        async || matches!(broker.consume_link(), LinkState::Down { reason } if reason.contains(&said)),
    )
    .await;
    with_queue(server, &url, cure).await;
    let delivery = next(&mut *subscription).await;
    assert_eq!(id_of(&delivery), batch(1).id);
    delivery.ack().await.unwrap();
    broker.close().await;
}

/// The queue stops working while messages flow. Neither its publishers nor its consumers are told.
async fn a_queue_that_stops_in_mid_flow_is_recovered_from(server: &RabbitMqServer, [fault, cure]: [&str; 2]) {
    let url = server.create_vhost().await.unwrap();
    let mut settings = default_settings(&url);
    settings.publish_timeout = Duration::from_secs(4);
    let broker = RabbitMqBroker::start(settings);
    let mut subscription = subscribe(&broker, 10);
    consume_link(&broker, LinkState::is_ready).await;
    publish_link(&broker, LinkState::is_ready).await;
    with_queue(server, &url, fault).await;
    broker
        .publisher()
        .publish(&batch(1))
        .await
        .expect_err("nothing can take responsibility");
    with_queue(server, &url, cure).await;
    let again = publish_until_confirmed(broker.publisher(), [1, 2].map(batch), Arc::default());
    soon("confirmed", again).await;
    let ids = [1, 2].map(|number| batch(number).id).into();
    consume_all(&mut *subscription, ids).await;
    broker.close().await;
}
