use std::sync::Arc;

use broker::ShareError;
use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tokio::time::interval;

use super::{declare, unavailable};
use crate::{
    RabbitMqSettings,
    confirmed::{NotConfirmed, publish_confirmed},
    error::{LinkError, answered},
    link::{CHECK_INTERVAL, Link},
    outgoing::short,
};

/// One side of a conversation: a connection, and a queue that lives as long as it.
pub(super) struct Line {
    settings: Arc<RabbitMqSettings>,
    link: Link,
    channel: Channel,
    queue: ShortString,
    heard: Consumer,
}

impl Line {
    pub(super) async fn open(settings: Arc<RabbitMqSettings>, purpose: &str) -> Result<Self, LinkError> {
        let link = Link::open(&settings, purpose).await?;
        let prepare = async {
            let channel = link.confirming_channel().await?;
            let exclusive = QueueDeclareOptions {
                exclusive: true,
                ..QueueDeclareOptions::default()
            };
            let queue = declare(&channel, ShortString::default(), exclusive).await?;
            // What its owner has not read dies with him: there is nothing to acknowledge.
            let heard = consume(&channel, queue.clone(), true).await?;
            Ok((channel, queue, heard))
        };
        let (channel, queue, heard) =
            answered("opening a conversation", settings.connect_timeout, prepare).await?;
        Ok(Self {
            settings,
            link,
            channel,
            queue,
            heard,
        })
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Of a message whose answers come here.
    pub(super) fn properties(&self, run_id: &str) -> BasicProperties {
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_app_id(short(&self.settings.app_id))
            .with_correlation_id(short(run_id))
            .with_reply_to(self.queue.clone())
    }

    /// What is said to this side.
    pub(super) async fn next(&mut self) -> Result<Delivery, ShareError> {
        next(&self.link, &self.channel, &mut self.heard).await
    }

    /// As [`Self::next`], of another consumer on this line.
    pub(super) async fn next_of(&self, consumer: &mut Consumer) -> Result<Delivery, ShareError> {
        next(&self.link, &self.channel, consumer).await
    }

    pub(super) async fn send(
        &self,
        queue: ShortString,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), ShareError> {
        let patience = self.settings.publish_timeout;
        let exchange = ShortString::default();
        publish_confirmed(&self.channel, exchange, queue, body, properties, patience)
            .await
            .map_err(|error| match error {
                NotConfirmed::Returned { .. } => ShareError::Gone,
                error => unavailable(error),
            })
    }

    pub(super) async fn close(self) {
        self.link.close().await;
    }
}

pub(super) async fn consume(
    channel: &Channel,
    queue: ShortString,
    no_ack: bool,
) -> Result<Consumer, LinkError> {
    let options = BasicConsumeOptions {
        no_ack,
        ..BasicConsumeOptions::default()
    };
    channel
        .basic_consume(
            queue.clone(),
            ShortString::default(),
            options,
            FieldTable::default(),
        )
        .await
        .map_err(|source| LinkError::Consume {
            queue: queue.to_string(),
            source,
        })
}

/// A link may end without a word to its consumers: it is looked at too.
async fn next(link: &Link, channel: &Channel, consumer: &mut Consumer) -> Result<Delivery, ShareError> {
    let mut checks = interval(CHECK_INTERVAL);
    loop {
        tokio::select! {
            biased;
            delivery = consumer.next() => {
                return delivery
                    .ok_or_else(|| unavailable(LinkError::ConsumerCancelled))?
                    .map_err(|error| unavailable(LinkError::Lost(error)));
            }
            _ = checks.tick() => link.check(channel).map_err(unavailable)?,
        }
    }
}
