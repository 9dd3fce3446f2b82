//! Wrong passwords and conflicting topologies: the backend says what is wrong and works once it is repaired.

use broker::{Broker, LinkState, PublishError};
use lapin::{
    Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use test_servers::shared_rabbitmq;

use crate::{
    messages::{batch, next, subscribe},
    servers::{QUEUE, connect_to, empty_vhost},
    waiting::{consume_link, is_down, publish_link},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_without_saying_it() {
    let url = shared_rabbitmq().await.amqp_url();
    let (before, after) = url.rsplit_once('@').expect("a URL with a user");
    let (user, _password) = before.rsplit_once(':').expect("a URL with a password");
    let broker = connect_to(&format!("{user}:canary@{after}"));
    // On a busy machine the broker may close the connection before it has checked the password.
    let is_refused =
        |state: &LinkState| matches!(state, LinkState::Down { reason } if reason.contains("ACCESS_REFUSED"));
    let reason = publish_link(&broker, is_refused).await;
    let refused = broker.publisher().publish(&batch(1)).await.unwrap_err();
    assert!(matches!(refused, PublishError::Unavailable { .. }));
    let info = broker.info().await.unwrap_err();
    let list = broker.dead_letters().list(1).await.unwrap_err();
    let said = format!("{reason:?} {refused} {refused:?} {info:?} {list} {list:?} {broker:?}");
    assert!(!said.contains("canary"), "{said}");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listening_is_down() {
    let broker = connect_to("amqp://127.0.0.1:1");
    publish_link(&broker, is_down).await;
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_another_type_is_named_and_waited_for() {
    let url = empty_vhost().await;
    let operator = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = operator.create_channel().await.unwrap();
    channel
        .queue_declare(
            QUEUE.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await
        .unwrap();

    let broker = connect_to(&url);
    let mut subscription = subscribe(&broker, 1);
    for state in [
        publish_link(&broker, is_down).await,
        consume_link(&broker, is_down).await,
    ] {
        let LinkState::Down { reason } = state else {
            panic!("the conflict was not noticed");
        };
        assert!(
            reason.contains("PRECONDITION_FAILED") && reason.contains(QUEUE),
            "{reason}"
        );
    }
    channel
        .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    publish_link(&broker, LinkState::is_ready).await;
    broker.publisher().publish(&batch(1)).await.unwrap();
    next(&mut *subscription).await.ack().await.unwrap();
    broker.close().await;
}
