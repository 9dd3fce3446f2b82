//! The users of the broker.

use std::{fs, path::Path};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};
use test_servers::RabbitMqServer;

use super::{PASSWORD, as_user, random_name};

const QUEUE: &str = "benchmarking_service";

/// A broker with the definitions and the users of k8s/rabbitmq, and their URLs.
pub(super) struct Broker {
    pub(super) server: RabbitMqServer,
    pub(super) producer: String,
    pub(super) consumer: String,
}

impl Broker {
    pub(super) async fn with_users() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/rabbitmq");
        let server = RabbitMqServer::start().await.unwrap();
        // Copied, because the server runs as another user, who may not look into this folder.
        let definitions = std::env::temp_dir().join(format!("{}.json", random_name()));
        fs::copy(folder.join("definitions.json"), &definitions).unwrap();
        let imported = server
            .rabbitmqctl(&["import_definitions", definitions.to_str().unwrap()])
            .await;
        fs::remove_file(&definitions).unwrap();
        imported.unwrap();
        for line in fs::read_to_string(folder.join("permissions.txt"))
            .unwrap()
            .lines()
        {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [whose @ ("PRODUCER" | "CONSUMER"), configure, write, read] = fields[..] {
                let user = whose.to_lowercase();
                server.rabbitmqctl(&["add_user", &user, PASSWORD]).await.unwrap();
                server
                    .rabbitmqctl(&["set_permissions", "--vhost", "/", &user, configure, write, read])
                    .await
                    .unwrap();
            }
        }
        Self {
            producer: as_user(server.amqp_url(), "producer"),
            consumer: as_user(server.amqp_url(), "consumer"),
            server,
        }
    }
}

pub(super) async fn channel(url: &str) -> Channel {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    connection.create_channel().await.unwrap()
}

/// Publishes what no consumer can read, and waits for the broker's word.
pub(super) async fn publish(channel: &Channel, exchange: &str, key: &str) -> lapin::Result<Confirmation> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel
        .basic_publish(
            exchange.into(),
            key.into(),
            BasicPublishOptions::default(),
            b"poison",
            BasicProperties::default(),
        )
        .await?
        .await
}

/// What neither user may do. A refusal closes the channel, so each attempt has one of its own.
async fn attempts(url: &str) -> Vec<(&'static str, lapin::Result<()>)> {
    let channel = async || channel(url).await;
    let nothing = FieldTable::default;
    let queue = QueueDeclareOptions::default();
    let exchange = ExchangeDeclareOptions::default();
    let bound = QueueBindOptions::default();
    vec![
        (
            "declare a queue",
            channel()
                .await
                .queue_declare("mine".into(), queue, nothing())
                .await
                .map(drop),
        ),
        (
            "delete the queue",
            channel()
                .await
                .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
                .await
                .map(drop),
        ),
        (
            "declare an exchange",
            channel()
                .await
                .exchange_declare("mine".into(), ExchangeKind::Fanout, exchange, nothing())
                .await,
        ),
        (
            "delete the exchange",
            channel()
                .await
                .exchange_delete("llm.batches".into(), ExchangeDeleteOptions::default())
                .await,
        ),
        (
            "bind the queue",
            channel()
                .await
                .queue_bind(QUEUE.into(), "llm.batches".into(), "x".into(), bound, nothing())
                .await,
        ),
        (
            "publish past the exchange",
            publish(&channel().await, "", QUEUE).await.map(drop),
        ),
        (
            "publish to another exchange",
            publish(&channel().await, "amq.topic", "x").await.map(drop),
        ),
        (
            "read the dead letters",
            channel()
                .await
                .basic_get("benchmarking_service.dead".into(), BasicGetOptions::default())
                .await
                .map(drop),
        ),
    ]
}

/// What a producer may not do, and a consumer has to.
async fn attempts_to_consume(url: &str) -> Vec<(&'static str, lapin::Result<()>)> {
    let options = BasicConsumeOptions::default();
    vec![
        (
            "consume",
            channel(url)
                .await
                .basic_consume(QUEUE.into(), "".into(), options, FieldTable::default())
                .await
                .map(drop),
        ),
        (
            "purge the queue",
            channel(url)
                .await
                .queue_purge(QUEUE.into(), QueuePurgeOptions::default())
                .await
                .map(drop),
        ),
        (
            "make a dead letter",
            publish(&channel(url).await, "llm.batches.dead", "")
                .await
                .map(drop),
        ),
    ]
}

#[tokio::test]
async fn each_user_of_the_broker_is_refused_what_its_service_does_not_do() {
    let broker = Broker::with_users().await;
    let mut by_producer = attempts(&broker.producer).await;
    by_producer.extend(attempts_to_consume(&broker.producer).await);
    let by_consumer = attempts(&broker.consumer).await;
    for (user, attempts) in [("producer", by_producer), ("consumer", by_consumer)] {
        for (what, outcome) in attempts {
            let error = outcome.expect_err(what).to_string();
            assert!(error.contains("ACCESS_REFUSED"), "{what} as {user}: {error}");
        }
    }
}
