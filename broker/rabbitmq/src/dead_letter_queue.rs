use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{BoxError, DeadLetter, DeadLetterError, DeadLetterSelection, DeadLetters};
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions},
    types::{DeliveryTag, ShortString},
};
use tokio::sync::Mutex;

use crate::{
    RabbitMqSettings,
    confirmed_publish::{NotConfirmed, publish_confirmed},
    dead_letter_format,
    error::{LinkError, answered},
    link::Link,
    received_message::ReceivedMessage,
    topology::Topology,
};

/// Lists, replays and discards the messages in the queue of dead letters. Each operation opens a connection of its own.
#[derive(Debug)]
pub(crate) struct RabbitMqDeadLetters {
    settings: Arc<RabbitMqSettings>,
    topology: Topology,
    /// Allows one operation at a time: an operation does not see the letters that another one holds.
    operation_lock: Mutex<()>,
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
            operation_lock: Mutex::default(),
        }
    }

    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, OperationError> {
        let mut scan = QueueScan::begin(&self.settings, &self.topology).await?;
        let mut letters = Vec::new();
        while letters.len() < limit
            && let Some((_, letter)) = scan.next().await?
        {
            letters.push(dead_letter_format::describe(letter));
        }
        scan.end().await?;
        Ok(letters)
    }

    /// Removes the selected dead letters and returns their ids. With `republish`, each is first published to the queue of
    /// batches again.
    async fn remove(
        &self,
        selection: &DeadLetterSelection,
        republish: bool,
    ) -> Result<Vec<String>, OperationError> {
        let mut scan = QueueScan::begin(&self.settings, &self.topology).await?;
        let (mut ids, mut selection) = (Vec::new(), selection.unmatched());
        while !selection.is_exhausted()
            && let Some((tag, letter)) = scan.next().await?
        {
            let id = dead_letter_format::id(&letter.properties, &letter.body);
            if selection.matches(&id) {
                if republish {
                    self.publish_again(&scan.channel, &id, &letter).await?;
                }
                scan.remove(tag).await?;
                ids.push(id);
            }
        }
        scan.end().await?;
        Ok(ids)
    }

    async fn publish_again(
        &self,
        channel: &Channel,
        id: &str,
        letter: &ReceivedMessage,
    ) -> Result<(), OperationError> {
        let message = dead_letter_format::to_original(letter, &self.topology);
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
        let _guard = self.operation_lock.lock().await;
        self.list(limit).await.map_err(failed("list"))
    }

    async fn replay(&self, selection: &DeadLetterSelection) -> Result<Vec<String>, DeadLetterError> {
        let _guard = self.operation_lock.lock().await;
        self.remove(selection, true).await.map_err(failed("replay"))
    }

    async fn discard(&self, selection: &DeadLetterSelection) -> Result<Vec<String>, DeadLetterError> {
        let _guard = self.operation_lock.lock().await;
        self.remove(selection, false).await.map_err(failed("discard"))
    }
}

fn failed(operation: &'static str) -> impl FnOnce(OperationError) -> DeadLetterError {
    move |error| {
        let source: BoxError = Box::new(error);
        DeadLetterError { operation, source }
    }
}

/// Reads the queue once, oldest letter first. Each letter stays unacknowledged until the end, so that it is read only once.
/// Then the broker requeues all letters that were not removed; it does so too when the scan fails and its link is dropped.
struct QueueScan {
    link: Link,
    channel: Channel,
    queue: ShortString,
    /// How many of the letters that were there at the beginning are not read yet. Letters that arrive later are not read, so
    /// the scan ends.
    unread: u32,
    answer_timeout: Duration,
}

impl QueueScan {
    async fn begin(settings: &RabbitMqSettings, topology: &Topology) -> Result<Self, LinkError> {
        let link = topology.open_link(settings, "dead letters").await?;
        let begin = async {
            let unread = topology.depth(&link, &topology.dead_queue).await?;
            Ok((unread, link.confirming_channel().await?))
        };
        let (unread, channel) =
            answered("looking at the dead letters", settings.connect_timeout, begin).await?;
        Ok(Self {
            link,
            channel,
            queue: topology.dead_queue.clone(),
            unread,
            answer_timeout: settings.connect_timeout,
        })
    }

    async fn next(&mut self) -> lapin::Result<Option<(DeliveryTag, ReceivedMessage)>> {
        let Some(unread) = self.unread.checked_sub(1) else {
            return Ok(None);
        };
        self.unread = unread;
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

    /// Requeues the remaining letters and waits until the broker has received all acknowledgements. The requeued letters may be
    /// back a moment later.
    async fn end(self) -> Result<(), OperationError> {
        const ALL: DeliveryTag = 0;
        let requeue = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        self.channel.basic_nack(ALL, requeue).await?;
        self.link
            .finish_channel(&self.channel, self.answer_timeout)
            .await?;
        self.link.close().await;
        Ok(())
    }
}
