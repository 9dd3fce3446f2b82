//! A client of the broker beside the services: an operator, or a producer of arbitrary messages.

use anyhow::ensure;
use futures::{StreamExt, stream};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions},
    types::AMQPValue,
};
use rand::{Rng, RngExt};

use crate::{database::Database, queues};

/// The exchange of batches.
pub(super) const EXCHANGE: &str = "llm.batches";
/// The largest number of unconfirmed publishes.
const MAX_UNCONFIRMED: usize = 64;

/// A message as it is published.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// A persistent message with this id in its properties.
    pub(super) fn new(id: &str, body: impl Into<Vec<u8>>) -> Self {
        const PERSISTENT: u8 = 2;
        Self {
            properties: BasicProperties::default()
                .with_message_id(id.into())
                .with_delivery_mode(PERSISTENT),
            body: body.into(),
        }
    }

    /// Why it was rejected; `None` where it is no dead letter.
    pub(super) fn reason(&self) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get("x-reason")? {
            AMQPValue::LongString(reason) => Some(reason.to_string()),
            _ => None,
        }
    }
}

/// A connection of its own to the broker.
pub(super) struct Client(Connection);

impl Client {
    pub(super) async fn connect(amqp: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
        Ok(Self(connection))
    }

    pub(super) async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(self.0.create_channel().await?)
    }

    /// The number of ready messages in a queue.
    pub(super) async fn ready(&self, queue: &str) -> anyhow::Result<u64> {
        queues::ready(&self.0, queue).await
    }

    /// Deletes a queue and returns how many ready messages it had.
    pub(super) async fn delete(&self, queue: &str) -> anyhow::Result<u32> {
        let channel = self.channel().await?;
        let options = QueueDeleteOptions::default();
        Ok(channel.queue_delete(queue.into(), options).await?)
    }

    /// Publishes the messages in this order to the exchange of batches, and waits until the broker has confirmed all.
    pub(super) async fn publish(&self, messages: &[Message]) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        // The messages are written one after the other; several confirmations are awaited at once.
        let confirmations = stream::iter(messages)
            .then(async |message| {
                let (key, properties) = ("batch.test.test".into(), message.properties.clone());
                channel
                    .basic_publish(EXCHANGE.into(), key, options, &message.body, properties)
                    .await
            })
            .map(async |sent| anyhow::Ok(sent?.await?))
            .buffer_unordered(MAX_UNCONFIRMED);
        let mut confirmations = std::pin::pin!(confirmations);
        while let Some(confirmation) = confirmations.next().await {
            let confirmation = confirmation?;
            ensure!(
                matches!(confirmation, Confirmation::Ack(None)),
                "the broker answered {confirmation:?}"
            );
        }
        Ok(())
    }

    /// All ready messages of a queue. They are requeued.
    pub(super) async fn read_all(&self, queue: &str) -> anyhow::Result<Vec<Message>> {
        let channel = self.channel().await?;
        let mut messages = Vec::new();
        while let Some(found) = channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await?
        {
            messages.push(Message {
                properties: found.delivery.properties,
                body: found.delivery.data,
            });
        }
        // Closing the channel requeues the unacknowledged messages.
        channel.close(200, "seen".into()).await?;
        Ok(messages)
    }
}

/// A random batch id.
pub(super) fn id(random: &mut impl Rng) -> String {
    format!("{:032x}", random.random::<u128>())
}

/// The time of the database's clock, in the format of messages.
pub(super) async fn timestamp(database: &Database) -> anyhow::Result<String> {
    let mut connection = database.connect().await?;
    let format = r#"SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"#;
    Ok(sqlx::query_scalar(format).fetch_one(&mut connection).await?)
}
