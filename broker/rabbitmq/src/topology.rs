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
/// The prefix of every batch's routing key.
pub(crate) const ROUTING_KEY_PREFIX: &str = "batch.";
const BINDING: &str = "batch.#";

/// The exchanges and queues. Every connection declares them, so services may start in any order, and no message is lost for
/// lack of a queue.
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

    /// Declares the exchanges, queues and bindings. Where the user has no permission to configure (producers and consumers of
    /// least privilege), checks that the exchanges and queues exist.
    pub(crate) async fn declare(&self, link: &Link) -> Result<(), LinkError> {
        match self.declare_all(&link.channel().await?, false).await {
            Err(LinkError::Declare { source, .. }) if is_access_refused(&source) => {
                self.declare_all(&link.channel().await?, true).await
            }
            outcome => outcome,
        }
    }

    /// Sends a request over this channel that the broker answers after everything that was sent before.
    pub(crate) async fn probe(&self, channel: &Channel) -> Result<(), LinkError> {
        declare_exchange(channel, EXCHANGE, ExchangeKind::Topic, true).await
    }

    /// How many consumers the queue of batches has, those of other processes included. May be too low while the queue elects a
    /// leader.
    pub(crate) async fn consumers(&self, channel: &Channel) -> Result<u32, LinkError> {
        let found = passive_declare(channel, &self.queue).await?;
        Ok(found.consumer_count())
    }

    /// How many messages of a queue are ready.
    pub(crate) async fn depth(&self, link: &Link, queue: &ShortString) -> Result<u32, LinkError> {
        // Over a channel of its own, because the broker closes the channel where the queue is missing.
        let channel = link.channel().await?;
        Ok(passive_declare(&channel, queue).await?.message_count())
    }

    async fn declare_all(&self, channel: &Channel, passive: bool) -> Result<(), LinkError> {
        declare_exchange(channel, EXCHANGE, ExchangeKind::Topic, passive).await?;
        declare_exchange(channel, DEAD_EXCHANGE, ExchangeKind::Fanout, passive).await?;
        // The arguments of a queue cannot be changed later (another value is error 406), so limits belong in policies.
        declare_queue(channel, &self.queue, "quorum", passive).await?;
        // Not a quorum queue: RabbitMQ 4 drops a message of a quorum queue after 20 redeliveries, and each listing of the dead
        // letters redelivers them.
        declare_queue(channel, &self.dead_queue, "classic", passive).await?;
        if !passive {
            bind(channel, &self.queue, EXCHANGE, BINDING).await?;
            bind(channel, &self.dead_queue, DEAD_EXCHANGE, "").await?;
        }
        Ok(())
    }
}

async fn passive_declare(channel: &Channel, queue: &ShortString) -> Result<Queue, LinkError> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.clone(), options, FieldTable::default())
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
