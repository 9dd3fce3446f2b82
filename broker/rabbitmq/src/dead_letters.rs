use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{BoxError, DeadLetter, DeadLetterError, DeadLetters, Selection};
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions},
    types::{DeliveryTag, ShortString},
};
use tokio::sync::Mutex;

use crate::{
    RabbitMqSettings,
    confirmed::{NotConfirmed, publish_confirmed},
    dead_letter,
    error::{LinkError, answered},
    link::Link,
    received_message::ReceivedMessage,
    topology::Topology,
};

/// Looks after the queue of dead letters, over a connection that lasts for one operation.
#[derive(Debug)]
pub(crate) struct RabbitMqDeadLetters {
    settings: Arc<RabbitMqSettings>,
    topology: Topology,
    /// One operation at a time: what one holds, the others would not see.
    turn: Mutex<()>,
}

#[derive(Debug, thiserror::Error)]
enum OperationError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the broker's client failed")]
    Client(#[from] lapin::Error),
    #[error("the copy of {id} is not known to be in the queue")]
    Copy {
        id: String,
        #[source]
        source: NotConfirmed,
    },
}

impl RabbitMqDeadLetters {
    pub(crate) fn new(settings: Arc<RabbitMqSettings>, topology: Topology) -> Self {
        Self {
            settings,
            topology,
            turn: Mutex::default(),
        }
    }

    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, OperationError> {
        let mut walk = Walk::begin(&self.settings, &self.topology).await?;
        let mut letters = Vec::new();
        while letters.len() < limit
            && let Some((_, letter)) = walk.next().await?
        {
            letters.push(dead_letter::describe(letter));
        }
        walk.end().await?;
        Ok(letters)
    }

    async fn replay(&self, selection: &Selection) -> Result<Vec<String>, OperationError> {
        let mut walk = Walk::begin(&self.settings, &self.topology).await?;
        let (mut ids, mut wanted) = (Vec::new(), selection.wanted());
        while !wanted.is_met()
            && let Some((tag, letter)) = walk.next().await?
        {
            let id = dead_letter::id(&letter.properties, &letter.body);
            if wanted.takes(&id) {
                self.publish_again(&walk.channel, &id, &letter).await?;
                walk.remove(tag).await?;
                ids.push(id);
            }
        }
        walk.end().await?;
        Ok(ids)
    }

    async fn discard(&self, selection: &Selection) -> Result<Vec<String>, OperationError> {
        let mut walk = Walk::begin(&self.settings, &self.topology).await?;
        let (mut ids, mut wanted) = (Vec::new(), selection.wanted());
        while !wanted.is_met()
            && let Some((tag, letter)) = walk.next().await?
        {
            let id = dead_letter::id(&letter.properties, &letter.body);
            if wanted.takes(&id) {
                walk.remove(tag).await?;
                ids.push(id);
            }
        }
        walk.end().await?;
        Ok(ids)
    }

    async fn publish_again(
        &self,
        channel: &Channel,
        id: &str,
        letter: &ReceivedMessage,
    ) -> Result<(), OperationError> {
        let message = dead_letter::replayed(letter, &self.topology);
        let after = self.settings.publish_timeout;
        publish_confirmed(
            channel,
            message.exchange,
            message.routing_key,
            &message.body,
            message.properties,
            after,
        )
        .await
        .map_err(|source| OperationError::Copy {
            id: id.to_owned(),
            source,
        })
    }
}

#[async_trait]
impl DeadLetters for RabbitMqDeadLetters {
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let _turn = self.turn.lock().await;
        self.list(limit).await.map_err(failed("list"))
    }

    async fn replay(&self, selection: &Selection) -> Result<Vec<String>, DeadLetterError> {
        let _turn = self.turn.lock().await;
        self.replay(selection).await.map_err(failed("replay"))
    }

    async fn discard(&self, selection: &Selection) -> Result<Vec<String>, DeadLetterError> {
        let _turn = self.turn.lock().await;
        self.discard(selection).await.map_err(failed("discard"))
    }
}

fn failed(operation: &'static str) -> impl FnOnce(OperationError) -> DeadLetterError {
    move |error| {
        let source: BoxError = Box::new(error);
        DeadLetterError { operation, source }
    }
}

/// One pass over the queue, oldest letter first. Every letter is held unacknowledged until the end, so that none is
/// met twice; then all that was not removed goes back to its place, also when the pass fails and its link is dropped.
struct Walk {
    link: Link,
    channel: Channel,
    queue: ShortString,
    /// How many letters the queue had at the beginning and are not yet seen: a pass over a queue that grows ends.
    left: u32,
    patience: Duration,
}

impl Walk {
    async fn begin(settings: &RabbitMqSettings, topology: &Topology) -> Result<Self, LinkError> {
        let link = topology.open_link(settings, "dead letters").await?;
        let begin = async {
            let left = topology.depth(&link, &topology.dead_queue).await?;
            Ok((left, link.confirming_channel().await?))
        };
        let (left, channel) =
            answered("looking at the dead letters", settings.connect_timeout, begin).await?;
        Ok(Self {
            link,
            channel,
            queue: topology.dead_queue.clone(),
            left,
            patience: settings.connect_timeout,
        })
    }

    async fn next(&mut self) -> lapin::Result<Option<(DeliveryTag, ReceivedMessage)>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        let letter = self
            .channel
            .basic_get(self.queue.clone(), BasicGetOptions { no_ack: false })
            .await?;
        Ok(letter.map(|letter| (letter.delivery_tag, ReceivedMessage::from(letter.delivery))))
    }

    async fn remove(&self, tag: DeliveryTag) -> lapin::Result<()> {
        self.channel
            .basic_ack(tag, BasicAckOptions { multiple: false })
            .await
    }

    /// Waits until the broker has taken all acknowledgements of the walk. What it puts back may take it a moment more.
    async fn end(self) -> Result<(), OperationError> {
        const ALL: DeliveryTag = 0;
        let requeue = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        self.channel.basic_nack(ALL, requeue).await?;
        self.link.finish_channel(&self.channel, self.patience).await?;
        self.link.close().await;
        Ok(())
    }
}
