use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{BoxError, Receipt, SettleError};
use bytes::Bytes;
use lapin::types::DeliveryTag;
use shared_types::Clock;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    holdings::{Held, HoldingsRecord},
    unsettled::Verdict,
};
use crate::{dead_letter, error::LinkLost, publishing::Lane, received_message::ReceivedMessage};

/// How long a message that could become no dead letter is kept from its queue: without this it would come back at
/// once, to be rejected again.
const REJECT_AGAIN_DELAY: Duration = Duration::from_secs(1);

/// A verdict for the task that owns the channel.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) tag: DeliveryTag,
    pub(super) verdict: Verdict,
    /// Resolves when the verdict is written to the broker.
    pub(super) written: oneshot::Sender<()>,
}

/// What is needed to make a dead letter of any delivery.
#[derive(Debug)]
pub(super) struct Undertaker {
    pub(super) lane: Lane,
    pub(super) clock: Arc<dyn Clock>,
}

/// Settles one delivery over the channel that delivered it, or never.
#[derive(Debug)]
pub(super) struct AmqpReceipt {
    tag: DeliveryTag,
    redelivered: bool,
    message: ReceivedMessage,
    /// To the generation that delivered it; closed when its link is lost.
    settlements: mpsc::Sender<Settlement>,
    undertaker: Arc<Undertaker>,
    is_settled: bool,
    _held: Held,
}

impl AmqpReceipt {
    pub(super) fn new(
        delivery: lapin::message::Delivery,
        settlements: mpsc::Sender<Settlement>,
        undertaker: Arc<Undertaker>,
        record: &Arc<HoldingsRecord>,
    ) -> Self {
        Self {
            _held: record.hold(delivery.data.len()),
            tag: delivery.delivery_tag,
            redelivered: delivery.redelivered,
            message: ReceivedMessage::from(delivery),
            settlements,
            undertaker,
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

    pub(super) fn is_stale(&self) -> bool {
        self.settlements.is_closed()
    }

    async fn settle(&mut self, verdict: Verdict) -> Result<(), SettleError> {
        let lost = |_| SettleError {
            source: Box::new(LinkLost),
        };
        let written = self.send(verdict).ok_or(()).map_err(lost)?;
        written.await.map_err(|_dropped| lost(()))
    }

    fn send(&mut self, verdict: Verdict) -> Option<oneshot::Receiver<()>> {
        self.is_settled = true;
        let (written, confirmation) = oneshot::channel();
        let settlement = Settlement {
            tag: self.tag,
            verdict,
            written,
        };
        // The queue has a slot for each delivery that can be unsettled, so it is never full; it may be closed.
        self.settlements.try_send(settlement).ok().map(|()| confirmation)
    }
}

#[async_trait]
impl Receipt for AmqpReceipt {
    async fn ack(mut self: Box<Self>) -> Result<(), SettleError> {
        self.settle(Verdict::Acknowledge).await
    }

    async fn retry(mut self: Box<Self>) -> Result<(), SettleError> {
        self.settle(Verdict::Requeue).await
    }

    /// Publishes the dead letter, and acknowledges the message when that is confirmed. In between the message is in
    /// both queues, never in none.
    async fn reject(mut self: Box<Self>, reason: &str) -> Result<(), SettleError> {
        let letter = dead_letter::of(&self.message, reason, self.undertaker.clock.now());
        match self.undertaker.lane.publish(letter).await {
            Ok(()) => self.settle(Verdict::Acknowledge).await,
            Err(error) => {
                sleep(REJECT_AGAIN_DELAY).await;
                let source: BoxError = Box::new(error);
                Err(SettleError { source })
            }
        }
    }
}

impl Drop for AmqpReceipt {
    fn drop(&mut self) {
        if !self.is_settled {
            // Where the link is lost, the broker has put it back already.
            let _ = self.send(Verdict::Requeue);
        }
    }
}
