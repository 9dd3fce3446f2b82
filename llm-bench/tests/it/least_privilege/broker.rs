//! The users of the broker.

use std::{fs, path::Path};

use lapin::{
    BasicProperties, Channel, Confirmation, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};
use serde_json::{Value, json};
use test_servers::RabbitMqServer;

use super::{PASSWORD, as_user, random_name};
use crate::amqp::{DEAD_QUEUE, QUEUE, channel};

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
        let definitions = fs::read(folder.join("definitions.json")).unwrap();
        let mut definitions: Value = serde_json::from_slice(&definitions).unwrap();
        let (mut users, mut permissions) = (Vec::new(), Vec::new());
        let permitted = fs::read_to_string(folder.join("permissions.txt")).unwrap();
        for line in permitted.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [whose @ ("PRODUCER" | "CONSUMER"), configure, write, read] = fields[..] {
                let user = whose.to_lowercase();
                users.push(json!({"name": user, "password": PASSWORD, "tags": ""}));
                permissions.push(json!({
                    "user": user, "vhost": "/", "configure": configure, "write": write, "read": read,
                }));
            }
        }
        // All in one: each command would start an Erlang machine.
        definitions["users"] = users.into();
        definitions["permissions"] = permissions.into();
        // Not in our folder: the server runs as another user, who may not look into it.
        let file = std::env::temp_dir().join(format!("{}.json", random_name()));
        fs::write(&file, definitions.to_string()).unwrap();
        let imported = server
            .rabbitmqctl(&["import_definitions", file.to_str().unwrap()])
            .await;
        fs::remove_file(&file).unwrap();
        imported.unwrap();
        Self {
            producer: as_user(server.amqp_url(), "producer"),
            consumer: as_user(server.amqp_url(), "consumer"),
            server,
        }
    }
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

/// How the broker answered each of these. A refusal closes the channel, so each has one of its own.
type Attempts = Vec<(&'static str, lapin::Result<()>)>;

/// What only the topology's owner may do.
async fn attempts_to_change_the_topology(url: &str) -> Attempts {
    let channel = async || channel(url).await;
    let nothing = FieldTable::default;
    let queue = QueueDeclareOptions::default();
    let declared = channel()
        .await
        .queue_declare("mine".into(), queue, nothing())
        .await;
    let deletion = QueueDeleteOptions::default();
    let deleted = channel().await.queue_delete(QUEUE.into(), deletion).await;
    let (options, kind) = (ExchangeDeclareOptions::default(), ExchangeKind::Fanout);
    let mine = "mine".into();
    let exchange = channel()
        .await
        .exchange_declare(mine, kind, options, nothing())
        .await;
    let (name, deletion) = ("llm.batches".into(), ExchangeDeleteOptions::default());
    let exchange_deleted = channel().await.exchange_delete(name, deletion).await;
    let (name, options) = ("llm.batches".into(), QueueBindOptions::default());
    let channel = channel().await;
    let bound = channel
        .queue_bind(QUEUE.into(), name, "x".into(), options, nothing())
        .await;
    vec![
        ("declare a queue", declared.map(drop)),
        ("delete the queue", deleted.map(drop)),
        ("declare an exchange", exchange),
        ("delete the exchange", exchange_deleted),
        ("bind the queue", bound),
    ]
}

/// What neither user may do with the topology as it is.
async fn attempts_to_go_past_it(url: &str) -> Attempts {
    let past = publish(&channel(url).await, "", QUEUE).await;
    let elsewhere = publish(&channel(url).await, "amq.topic", "x").await;
    let options = BasicGetOptions::default();
    let got = channel(url).await.basic_get(DEAD_QUEUE.into(), options).await;
    vec![
        ("publish past the exchange", past.map(drop)),
        ("publish to another exchange", elsewhere.map(drop)),
        ("read the dead letters", got.map(drop)),
    ]
}

/// What a producer may not do, and a consumer has to.
async fn attempts_to_consume(url: &str) -> Attempts {
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

/// Each user of the broker is refused what its service does not do.
pub(super) async fn assert_nothing_else_is_allowed(broker: &Broker) {
    let mut by_producer = attempts_to_consume(&broker.producer).await;
    let mut by_consumer = Vec::new();
    for (url, attempts) in [
        (&broker.producer, &mut by_producer),
        (&broker.consumer, &mut by_consumer),
    ] {
        attempts.extend(attempts_to_change_the_topology(url).await);
        attempts.extend(attempts_to_go_past_it(url).await);
    }
    assert_eq!((by_producer.len(), by_consumer.len()), (11, 8));
    for (user, attempts) in [("producer", by_producer), ("consumer", by_consumer)] {
        for (what, outcome) in attempts {
            let error = outcome.expect_err(what).to_string();
            assert!(error.contains("ACCESS_REFUSED"), "{what} as {user}: {error}");
        }
    }
}
