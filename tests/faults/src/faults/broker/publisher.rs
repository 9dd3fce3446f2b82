//! A client of the broker that is none of the services: an operator, or a producer of whatever it likes.

use anyhow::ensure;
use futures::{StreamExt, stream};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions},
    types::AMQPValue,
};
use rand::{Rng, RngExt};

use crate::{database::Database, queue};

/// Where producers publish.
pub(super) const EXCHANGE: &str = "llm.batches";
/// Publishes under way at once.
const WINDOW: usize = 64;

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

    /// Why it is a dead letter.
    pub(super) fn reason(&self) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get("x-reason")? {
            AMQPValue::LongString(reason) => Some(reason.to_string()),
            _ => None,
        }
    }
}

/// A connection past every service.
pub(super) struct Client(Connection);

impl Client {
    pub(super) async fn connect(amqp: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
        Ok(Self(connection))
    }

    pub(super) async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(self.0.create_channel().await?)
    }

    /// How many messages wait in a queue.
    pub(super) async fn ready(&self, queue: &str) -> anyhow::Result<u64> {
        queue::ready(&self.0, queue).await
    }

    /// Deletes a queue; gives how many messages were ready in it.
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
        // One after the other is written, and confirmations are waited for beside that.
        let confirmations = stream::iter(messages)
            .then(async |message| {
                let (key, properties) = ("batch.test.test".into(), message.properties.clone());
                channel
                    .basic_publish(EXCHANGE.into(), key, options, &message.body, properties)
                    .await
            })
            .map(async |sent| anyhow::Ok(sent?.await?))
            .buffer_unordered(WINDOW);
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

    /// The messages of a queue, as many as it has, which go back to it.
    pub(super) async fn look_at(&self, queue: &str) -> anyhow::Result<Vec<Message>> {
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
        // What was not acknowledged goes back.
        channel.close(200, "seen".into()).await?;
        Ok(messages)
    }
}

/// A batch's id that the seed decides.
pub(super) fn id(random: &mut impl Rng) -> String {
    format!("{:032x}", random.random::<u128>())
}

/// The time by the database's clock, as messages state it.
pub(super) async fn timestamp(database: &Database) -> anyhow::Result<String> {
    let mut connection = database.connect().await?;
    let format = r#"SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"#;
    Ok(sqlx::query_scalar(format).fetch_one(&mut connection).await?)
}
