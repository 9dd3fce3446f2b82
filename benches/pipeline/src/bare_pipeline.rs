//! The limit of the pipeline: the same arrays are inserted, and the same bodies are published and consumed, without any other work.

use std::time::{Duration, Instant};

use broker::OutgoingMessage;
use futures::{StreamExt, TryStreamExt, stream};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use shared_types::MetricBatch;
use sqlx::{PgPool, postgres::PgPoolOptions};

/// Rows of one INSERT. The number of rows, connections and unconfirmed messages is the pipeline's.
const ROWS: usize = 64;
const CONNECTIONS: usize = 4;
const WINDOW: usize = 256;
const QUEUE: &str = "bare";

/// Inserts every batch as a row with a float8[]. Returns the time that it took.
pub(crate) async fn insert(url: &str, batches: &[MetricBatch]) -> anyhow::Result<Duration> {
    let pool = PgPoolOptions::new()
        .max_connections(u32::try_from(CONNECTIONS)?)
        .connect(url)
        .await?;
    sqlx::query("CREATE TABLE bare (id uuid PRIMARY KEY, data_points float8[] NOT NULL)")
        .execute(&pool)
        .await?;
    sqlx::query("ALTER TABLE bare ALTER data_points SET STORAGE EXTERNAL")
        .execute(&pool)
        .await?;
    let started = Instant::now();
    stream::iter(batches.chunks(ROWS))
        .map(|rows| insert_rows(&pool, rows))
        .buffer_unordered(CONNECTIONS)
        .try_collect::<()>()
        .await?;
    let took = started.elapsed();
    sqlx::query("DROP TABLE bare").execute(&pool).await?;
    pool.close().await;
    Ok(took)
}

async fn insert_rows(pool: &PgPool, rows: &[MetricBatch]) -> sqlx::Result<()> {
    let mut insert = sqlx::QueryBuilder::new("INSERT INTO bare (id, data_points) ");
    insert.push_values(rows, |mut row, batch| {
        row.push_bind(batch.id().as_uuid()).push_bind(batch.values());
    });
    insert.build().execute(pool).await?;
    Ok(())
}

/// Publishes every body, persistent and confirmed, through a quorum queue while another connection consumes and
/// acknowledges. Returns the time until the last acknowledgement.
pub(crate) async fn publish_and_consume(url: &str, messages: &[OutgoingMessage]) -> anyhow::Result<Duration> {
    let (publishing, consuming) = (connect(url).await?, connect(url).await?);
    let publisher = publishing.create_channel().await?;
    publisher.confirm_select(ConfirmSelectOptions::default()).await?;
    let consumer = consuming.create_channel().await?;
    declare(&consumer).await?;
    let started = Instant::now();
    tokio::try_join!(publish(&publisher, messages), consume(&consumer, messages.len()))?;
    let took = started.elapsed();
    publishing.close(200, "done".into()).await?;
    consuming.close(200, "done".into()).await?;
    Ok(took)
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await
}

async fn declare(channel: &Channel) -> lapin::Result<()> {
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    // The queue expires by itself, because RabbitMQ 3.10 closes the connection of a client that cancels a consumer of a deleted quorum
    // queue.
    quorum.insert("x-expires".into(), AMQPValue::LongInt(60_000));
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare(QUEUE.into(), durable, quorum).await?;
    let topic = lapin::options::ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .exchange_declare("bare".into(), ExchangeKind::Topic, topic, FieldTable::default())
        .await?;
    channel
        .queue_bind(
            QUEUE.into(),
            "bare".into(),
            "batch.#".into(),
            Default::default(),
            FieldTable::default(),
        )
        .await
}

async fn publish(channel: &Channel, messages: &[OutgoingMessage]) -> anyhow::Result<()> {
    stream::iter(messages)
        .map(|message| async move {
            let persistent = BasicProperties::default().with_delivery_mode(2);
            let key = message.routing_key.as_str().into();
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let confirm = channel
                .basic_publish("bare".into(), key, options, &message.body, persistent)
                .await?;
            anyhow::ensure!(confirm.await?.is_ack(), "the broker refused a message");
            Ok(())
        })
        .buffer_unordered(WINDOW)
        .try_collect()
        .await
}

async fn consume(channel: &Channel, expected: usize) -> anyhow::Result<()> {
    channel.basic_qos(128, BasicQosOptions::default()).await?;
    let mut deliveries = channel
        .basic_consume(
            QUEUE.into(),
            "bare".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    for _ in 0..expected {
        let delivery = deliveries
            .next()
            .await
            .ok_or_else(|| anyhow::anyhow!("the stream ended"))??;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
