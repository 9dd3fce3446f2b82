//! The largest messages, and larger ones, on a broker with the limit that we deploy.

use broker::{Broker, LinkState};
use shared_types::MAX_VALUES;
use test_patience::soon;
use test_servers::{RabbitMqOptions, RabbitMqServer};

use crate::{
    messages::{batch, batch_of, id_of, next, publish_until_confirmed, subscribe},
    servers::connect_to,
    waiting::publish_link,
};

const DEPLOYED: &str = include_str!("../../../../k8s/rabbitmq/rabbitmq.conf");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_largest_message_fits_and_a_larger_one_harms_only_itself() {
    let limit = DEPLOYED
        .lines()
        .find(|line| line.starts_with("max_message_size"))
        .expect("a limit is deployed");
    let bytes: usize = limit.rsplit_once(' ').unwrap().1.parse().unwrap();
    let options = RabbitMqOptions {
        settings: vec![limit.to_owned()],
        ..RabbitMqOptions::default()
    };
    let server = RabbitMqServer::start_with(options).await.unwrap();
    let broker = connect_to(server.amqp_url());
    publish_link(&broker, LinkState::is_ready).await;
    let publisher = broker.publisher();

    // A double with the longest decimal representation.
    let largest = batch_of(1, vec![-1.234_567_890_123_456_7e-300; MAX_VALUES]);
    assert!(largest.body.len() < bytes / 2, "{} bytes", largest.body.len());
    publisher.publish(&largest).await.unwrap();
    let mut subscription = subscribe(&broker, 1);
    let delivery = next(&mut *subscription).await;
    assert_eq!(delivery.body, largest.body);
    delivery.ack().await.unwrap();

    let mut foreign = batch(2);
    foreign.body = vec![0; bytes + 1].into();
    publisher.publish(&foreign).await.unwrap_err();
    let again = publish_until_confirmed(publisher, vec![batch(3)], std::sync::Arc::default());
    soon("publishing goes on", again).await;
    let delivery = next(&mut *subscription).await;
    assert_eq!(id_of(&delivery), batch(3).id);
    delivery.ack().await.unwrap();
    broker.close().await;
}
