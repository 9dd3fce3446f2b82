use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::try_join_all};
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::{sync::mpsc, time::interval};
use tokio_util::sync::CancellationToken;

use super::{
    acknowledger::{DeadLetterWriter, DeliveryAcknowledger, Settlement},
    consumers::{ConsumerId, Consumers, PendingChange, PrefetchChange},
    prefetch_usage::PrefetchUsageCounters,
    undelivered_buffer::{BufferedDelivery, UndeliveredBuffer},
    unsettled_tags::{Disposition, Frame, UnsettledTags},
};
use crate::{
    error::{LinkError, answered},
    link::{CHECK_INTERVAL, Link},
    topology::Topology,
};

/// How many probes in a row must find the queue without a consumer. A single one may, while the queue elects a leader.
const PROBES_WITHOUT_CONSUMER: usize = 2;

/// The part of a subscription that outlives its connections.
#[derive(Debug)]
pub(super) struct SubscriptionContext {
    pub(super) deliveries: mpsc::Sender<BufferedDelivery>,
    pub(super) dead_letter_writer: Arc<DeadLetterWriter>,
    pub(super) prefetch_usage: Arc<PrefetchUsageCounters>,
    pub(super) topology: Topology,
    pub(super) closing: CancellationToken,
    /// How long the broker may take to answer a request.
    pub(super) answer_timeout: Duration,
    /// How often the broker is asked whether it still knows the consumer.
    pub(super) probe_interval: Duration,
}

/// Consuming over one connection: receives deliveries and settles them, until the connection is lost.
pub(super) struct ConsumeSession<'a> {
    context: &'a SubscriptionContext,
    link: &'a Link,
    channel: Channel,
    consumers: Consumers,
    pending_change: Option<PendingChange>,
    /// False once the subscription was dropped. Then only the deliveries that it had returned are still settled.
    is_subscribed: bool,
    /// A delivery that waits for a place in the subscription's channel.
    next: Option<BufferedDelivery>,
    buffer: Arc<UndeliveredBuffer>,
    settle: mpsc::Sender<Settlement>,
    settlements: mpsc::Receiver<Settlement>,
    unsettled: UnsettledTags,
}

impl<'a> ConsumeSession<'a> {
    /// A session over `channel`. The consumers have at most `max_unsettled` unsettled deliveries.
    pub(super) fn new(
        context: &'a SubscriptionContext,
        link: &'a Link,
        channel: Channel,
        consumers: Consumers,
        max_unsettled: usize,
    ) -> Self {
        let (settle, settlements) = mpsc::channel(max_unsettled);
        Self {
            context,
            link,
            channel,
            consumers,
            pending_change: None,
            is_subscribed: true,
            next: None,
            buffer: Arc::default(),
            settle,
            settlements,
            unsettled: UnsettledTags::default(),
        }
    }

    /// Receives and settles until the link is lost, the broker is closed, or the subscription is dropped and all is settled.
    pub(super) async fn consume(mut self) -> Result<Infallible, LinkError> {
        let (limit, context) = (self.settlements.max_capacity(), self.context);
        let mut settlements = Vec::with_capacity(limit);
        let has_delivered = AtomicBool::new(false);
        let (link, channel) = (self.link, self.channel.clone());
        let mut checks = pin!(check(link, &channel, context, &has_delivered));
        loop {
            if self.is_subscribed && self.pending_change.is_none() {
                let timeout = context.answer_timeout;
                let bounded = |change| answered("changing the prefetch", timeout, change).boxed();
                self.pending_change = self.consumers.adapt().map(bounded);
            }
            if !self.is_subscribed && self.unsettled.is_empty() {
                return Err(LinkError::Unsubscribed);
            }
            tokio::select! {
                biased;
                _ = self.settlements.recv_many(&mut settlements, limit) => {
                    self.write(std::mem::take(&mut settlements)).await?;
                }
                () = context.closing.cancelled() => {
                    self.settlements.close();
                    while self.settlements.recv_many(&mut settlements, limit).await > 0 {}
                    self.write(settlements).await?;
                    return Err(LinkError::Closed);
                }
                () = context.deliveries.closed(), if self.is_subscribed => self.unsubscribe().await?,
                // Polled before the deliveries, which may come without a pause.
                error = &mut checks, if self.is_subscribed => return Err(error),
                changed = completed(&mut self.pending_change) => {
                    self.pending_change = None;
                    self.consumers.changed(changed?);
                }
                Ok(room) = context.deliveries.reserve(), if self.next.is_some() => {
                    if let Some(next) = self.next.take() {
                        room.send(next);
                    }
                }
                Some(delivered) = self.consumers.next(), if self.is_subscribed && self.next.is_none() => {
                    has_delivered.store(true, Ordering::Relaxed);
                    let (consumer, delivery) = delivered?;
                    self.receive(consumer, delivery);
                }
            }
        }
    }

    fn receive(&mut self, consumer: ConsumerId, delivery: Delivery) {
        self.unsettled.delivered(delivery.delivery_tag);
        self.consumers.received(consumer, &delivery);
        let dead_letter_writer = Arc::clone(&self.context.dead_letter_writer);
        let acknowledger = DeliveryAcknowledger::new(
            delivery,
            self.settle.clone(),
            dead_letter_writer,
            &self.context.prefetch_usage,
        );
        self.next = Some(self.buffer.insert(acknowledger));
    }

    async fn write(&mut self, settlements: Vec<Settlement>) -> Result<(), LinkError> {
        let dispositions = settlements
            .iter()
            .map(|settlement| (settlement.tag, settlement.disposition));
        let frames = self.unsettled.settle(dispositions);
        self.write_frames(frames).await?;
        for settlement in settlements {
            self.consumers.settled(settlement.tag);
            // Fails where the acknowledger was dropped: then nobody waits.
            let _ = settlement.written.send(());
        }
        Ok(())
    }

    /// Has a time limit, because the session does nothing else meanwhile.
    async fn write_frames(&mut self, frames: Vec<Frame>) -> Result<(), LinkError> {
        let writing = try_join_all(frames.into_iter().map(|frame| write(&self.channel, frame)));
        let writing = async { writing.await.map(drop).map_err(LinkError::Lost) };
        answered("settling deliveries", self.context.answer_timeout, writing).await
    }

    /// Cancels the consumers and requeues every delivery that the subscription has not returned. Deliveries in the buffer are
    /// requeued when their acknowledgers are dropped; those that the AMQP client still holds are requeued by their tags. The
    /// broker answers the cancellation after its last delivery.
    async fn unsubscribe(&mut self) -> Result<(), LinkError> {
        self.is_subscribed = false;
        self.next = None;
        self.buffer.clear();
        let pending_change = self.pending_change.take();
        let consumers = &mut self.consumers;
        let cancel = async {
            if let Some(pending_change) = pending_change {
                consumers.changed(pending_change.await?);
            }
            consumers.cancel_all().await?;
            let mut undelivered = Vec::new();
            while let Some(delivered) = consumers.next().await {
                undelivered.push(delivered?.1.delivery_tag);
            }
            Ok(undelivered)
        };
        let undelivered = answered("cancelling the consumers", self.context.answer_timeout, cancel).await?;
        undelivered.iter().for_each(|tag| self.unsettled.delivered(*tag));
        let requeued = undelivered.into_iter().map(|tag| (tag, Disposition::Requeue));
        let frames = self.unsettled.settle(requeued);
        self.write_frames(frames).await
    }
}

impl Drop for ConsumeSession<'_> {
    fn drop(&mut self) {
        // Closed before the buffer is cleared, so that the dropped acknowledgers ask nothing of the lost link.
        self.settlements.close();
        self.buffer.clear();
    }
}

/// Returns when the link is lost or the broker has forgotten the consumer. Neither of the two always shows in the consumer's
/// stream.
async fn check(
    link: &Link,
    channel: &Channel,
    context: &SubscriptionContext,
    has_delivered: &AtomicBool,
) -> LinkError {
    let watching = async {
        let mut checks = interval(CHECK_INTERVAL);
        loop {
            checks.tick().await;
            link.check(channel)?;
        }
    };
    let probing = async {
        let mut without_consumer = 0;
        loop {
            tokio::time::sleep(context.probe_interval).await;
            let probe = context.topology.consumers(channel);
            let consumers = answered("a question in between", context.answer_timeout, probe).await?;
            // A delivery since the last probe shows that the broker knows the consumer.
            let has_delivered = has_delivered.swap(false, Ordering::Relaxed);
            without_consumer = match consumers {
                0 if !has_delivered => without_consumer + 1,
                _ => 0,
            };
            if without_consumer >= PROBES_WITHOUT_CONSUMER {
                return Err(LinkError::ConsumerForgotten);
            }
        }
    };
    first_error(watching, probing).await
}

async fn first_error(
    one: impl Future<Output = Result<Infallible, LinkError>>,
    other: impl Future<Output = Result<Infallible, LinkError>>,
) -> LinkError {
    match futures::future::try_join(one, other).await {
        Err(error) => error,
        Ok((never, _)) => match never {},
    }
}

/// Waits for the change; forever where there is none.
async fn completed(pending_change: &mut Option<PendingChange>) -> Result<PrefetchChange, LinkError> {
    match pending_change {
        Some(pending_change) => pending_change.await,
        None => std::future::pending().await,
    }
}

async fn write(channel: &Channel, frame: Frame) -> lapin::Result<()> {
    match frame {
        Frame::Ack { tag, multiple } => channel.basic_ack(tag, BasicAckOptions { multiple }).await,
        Frame::Requeue { tag } => {
            let options = BasicNackOptions {
                multiple: false,
                requeue: true,
            };
            channel.basic_nack(tag, options).await
        }
    }
}
