use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{Acknowledger, PublishError, SettleError};
use bytes::Bytes;
use lapin::types::DeliveryTag;
use shared_types::Clock;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    prefetch_usage::{PrefetchUsageCounters, UsageGuard},
    unsettled_tags::Disposition,
};
use crate::{
    dead_letter_format, error::LinkLost, publishing::PublishHandle, received_message::ReceivedMessage,
};

/// How long a message stays unsettled after its dead letter could not be published. Without this delay it would be requeued
/// at once, delivered again and rejected again.
const REQUEUE_DELAY: Duration = Duration::from_secs(1);

/// Asks the task that owns the channel to settle a delivery.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) tag: DeliveryTag,
    pub(super) disposition: Disposition,
    /// Resolved when the disposition is written to the broker.
    pub(super) written: oneshot::Sender<()>,
}

/// Publishes rejected messages to the dead letters, over the connection that publishes.
#[derive(Debug)]
pub(super) struct DeadLetterWriter {
    pub(super) publisher: PublishHandle,
    pub(super) clock: Arc<dyn Clock>,
}

impl DeadLetterWriter {
    async fn write(&self, message: &ReceivedMessage, reason: &str) -> Result<(), PublishError> {
        let letter = dead_letter_format::to_dead_letter(message, reason, self.clock.now());
        self.publisher.publish_confirmed(letter).await
    }
}

/// Settles one delivery, over the channel that delivered it. Fails where that channel is closed.
#[derive(Debug)]
pub(super) struct DeliveryAcknowledger {
    tag: DeliveryTag,
    redelivered: bool,
    message: ReceivedMessage,
    /// To the session that received the delivery. Closed when the session's link is lost.
    settlements: mpsc::Sender<Settlement>,
    dead_letter_writer: Arc<DeadLetterWriter>,
    is_settled: bool,
    _usage: UsageGuard,
}

impl DeliveryAcknowledger {
    pub(super) fn new(
        delivery: lapin::message::Delivery,
        settlements: mpsc::Sender<Settlement>,
        dead_letter_writer: Arc<DeadLetterWriter>,
        usage: &Arc<PrefetchUsageCounters>,
    ) -> Self {
        Self {
            _usage: usage.hold(delivery.data.len()),
            tag: delivery.delivery_tag,
            redelivered: delivery.redelivered,
            message: ReceivedMessage::from(delivery),
            settlements,
            dead_letter_writer,
            is_settled: false,
        }
    }

    pub(super) fn tag(&self) -> DeliveryTag {
        self.tag
    }

    pub(super) fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    pub(super) fn body(&self) -> Bytes {
        self.message.body.clone()
    }

    /// Whether the link of the delivery is lost.
    pub(super) fn is_stale(&self) -> bool {
        self.settlements.is_closed()
    }

    async fn settle(&mut self, disposition: Disposition) -> Result<(), SettleError> {
        let lost = |_| SettleError {
            source: Box::new(LinkLost),
        };
        let written = self.send(disposition).ok_or(()).map_err(lost)?;
        written.await.map_err(|_dropped| lost(()))
    }

    fn send(&mut self, disposition: Disposition) -> Option<oneshot::Receiver<()>> {
        self.is_settled = true;
        let (written, confirmation) = oneshot::channel();
        let settlement = Settlement {
            tag: self.tag,
            disposition,
            written,
        };
        // Fails only where the channel is closed: it has a place for each delivery that can be unsettled.
        self.settlements.try_send(settlement).ok().map(|()| confirmation)
    }
}

#[async_trait]
impl Acknowledger for DeliveryAcknowledger {
    async fn ack(mut self: Box<Self>) -> Result<(), SettleError> {
        self.settle(Disposition::Acknowledge).await
    }

    async fn retry(mut self: Box<Self>) -> Result<(), SettleError> {
        self.settle(Disposition::Requeue).await
    }

    /// Publishes the dead letter, then acknowledges the message. In between the message is in both queues.
    async fn reject(mut self: Box<Self>, reason: &str) -> Result<(), SettleError> {
        if let Err(error) = self.dead_letter_writer.write(&self.message, reason).await {
            sleep(REQUEUE_DELAY).await;
            return Err(SettleError {
                source: Box::new(error),
            });
        }
        self.settle(Disposition::Acknowledge).await
    }
}

impl Drop for DeliveryAcknowledger {
    fn drop(&mut self) {
        if !self.is_settled {
            // Fails where the link is lost. The broker has requeued the message then.
            let _ = self.send(Disposition::Requeue);
        }
    }
}
