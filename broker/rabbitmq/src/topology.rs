use lapin::{
    Channel, ExchangeKind, Queue,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{
    RabbitMqSettings,
    error::{LinkError, answered},
    link::Link,
};

/// Where batches are published.
pub(crate) const EXCHANGE: &str = "llm.batches";
/// Where dead letters are published.
pub(crate) const DEAD_EXCHANGE: &str = "llm.batches.dead";
/// The beginning of every batch's routing key.
pub(crate) const ROUTING_KEY_PREFIX: &str = "batch.";
const BINDING: &str = "batch.#";

/// The exchanges and queues, declared by whoever connects first: no start order is needed, and nothing is lost
/// because nobody had declared its queue.
#[derive(Debug, Clone)]
pub(crate) struct Topology {
    pub(crate) queue: ShortString,
    pub(crate) dead_queue: ShortString,
}

impl Topology {
    pub(crate) fn of(settings: &RabbitMqSettings) -> Self {
        // No panic: `RabbitMqSettings::new` bounds the name so that both fit.
        Self {
            queue: settings.queue.as_str().into(),
            dead_queue: format!("{}.dead", settings.queue).into(),
        }
    }

    /// Opens a link and declares the topology over it. `purpose` is shown in the management UI.
    pub(crate) async fn open_link(
        &self,
        settings: &RabbitMqSettings,
        purpose: &str,
    ) -> Result<Link, LinkError> {
        let link = Link::open(settings, purpose).await?;
        let timeout = settings.connect_timeout;
        answered("declaring exchanges and queues", timeout, self.declare(&link)).await?;
        Ok(link)
    }

    /// Makes sure that everything exists. Where the user may not configure (producers and consumers of least
    /// privilege), it is enough that somebody else has declared it.
    pub(crate) async fn declare(&self, link: &Link) -> Result<(), LinkError> {
        match self.declare_all(&link.channel().await?, false).await {
            Err(LinkError::Declare { source, .. }) if is_access_refused(&source) => {
                self.declare_all(&link.channel().await?, true).await
            }
            outcome => outcome,
        }
    }

    /// Asks something that the broker answers over this channel, after everything that was sent before.
    pub(crate) async fn probe(&self, channel: &Channel) -> Result<(), LinkError> {
        declare_exchange(channel, EXCHANGE, ExchangeKind::Topic, true).await
    }

    /// How many consumers the queue of batches has, ours and others'. May be too few while the queue is busy electing
    /// a leader.
    pub(crate) async fn consumers(&self, channel: &Channel) -> Result<u32, LinkError> {
        let found = look_at(channel, &self.queue).await?;
        Ok(found.consumer_count())
    }

    /// How many messages of a queue are ready.
    pub(crate) async fn depth(&self, link: &Link, queue: &ShortString) -> Result<u32, LinkError> {
        // On a channel of its own: where the queue is missing, the broker closes the channel.
        let channel = link.channel().await?;
        Ok(look_at(&channel, queue).await?.message_count())
    }

    async fn declare_all(&self, channel: &Channel, passive: bool) -> Result<(), LinkError> {
        declare_exchange(channel, EXCHANGE, ExchangeKind::Topic, passive).await?;
        declare_exchange(channel, DEAD_EXCHANGE, ExchangeKind::Fanout, passive).await?;
        // Arguments can never be changed (another value is a conflict, 406): limits belong into policies.
        declare_queue(channel, &self.queue, "quorum", passive).await?;
        // A quorum queue counts how often a message came back, and RabbitMQ 4 drops it after 20 times: so often may
        // an operator look at the dead letters, and more.
        declare_queue(channel, &self.dead_queue, "classic", passive).await?;
        if !passive {
            bind(channel, &self.queue, EXCHANGE, BINDING).await?;
            bind(channel, &self.dead_queue, DEAD_EXCHANGE, "").await?;
        }
        Ok(())
    }
}

async fn look_at(channel: &Channel, queue: &ShortString) -> Result<Queue, LinkError> {
    let look = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.clone(), look, FieldTable::default())
        .await
        .map_err(declaring(|| format!("queue {queue}")))
}

async fn declare_exchange(
    channel: &Channel,
    name: &'static str,
    kind: ExchangeKind,
    passive: bool,
) -> Result<(), LinkError> {
    let options = ExchangeDeclareOptions {
        passive,
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), kind, options, FieldTable::default())
        .await
        .map_err(declaring(|| format!("exchange {name}")))
}

async fn declare_queue(
    channel: &Channel,
    name: &ShortString,
    kind: &'static str,
    passive: bool,
) -> Result<(), LinkError> {
    let options = QueueDeclareOptions {
        passive,
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    channel
        .queue_declare(name.clone(), options, arguments)
        .await
        .map_err(declaring(|| format!("queue {name}")))?;
    Ok(())
}

async fn bind(
    channel: &Channel,
    queue: &ShortString,
    exchange: &'static str,
    key: &'static str,
) -> Result<(), LinkError> {
    channel
        .queue_bind(
            queue.clone(),
            exchange.into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(declaring(|| {
            format!("the binding of queue {queue} to exchange {exchange}")
        }))
}

fn declaring(what: impl FnOnce() -> String) -> impl FnOnce(lapin::Error) -> LinkError {
    |source| LinkError::Declare { what: what(), source }
}

fn is_access_refused(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error)
        if *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED))
}
