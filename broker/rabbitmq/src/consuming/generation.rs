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
    consumers::{Changed, Changing, ConsumerId, Consumers},
    holdings::HoldingsRecord,
    receipt::{AmqpReceipt, Settlement, Undertaker},
    shelf::{Incoming, Shelf},
    unsettled::{Frame, Unsettled, Verdict},
};
use crate::{
    error::{LinkError, answered},
    link::{CHECK_INTERVAL, Link},
    topology::Topology,
};

/// So many times in a row the queue has to have no consumer: while it elects a leader, it says so too.
const FORGOTTEN_AFTER: usize = 2;

/// What outlives the generations of a subscription.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) incoming: mpsc::Sender<Incoming>,
    pub(super) undertaker: Arc<Undertaker>,
    pub(super) holdings: Arc<HoldingsRecord>,
    pub(super) topology: Topology,
    pub(super) closing: CancellationToken,
    /// How long the broker may be silent where it owes an answer.
    pub(super) patience: Duration,
    /// How long it may be silent until it is asked.
    pub(super) probe_interval: Duration,
}

/// What one connection delivers, and what is settled over it.
pub(super) struct Generation<'a> {
    subscriber: &'a Subscriber,
    link: &'a Link,
    channel: Channel,
    consumers: Consumers,
    changing: Option<Changing>,
    /// Not when nobody wants deliveries any more, and only those already given out are still to be settled.
    is_subscribed: bool,
    /// A delivery for which there is no room yet.
    next: Option<Incoming>,
    shelf: Arc<Shelf>,
    settle: mpsc::Sender<Settlement>,
    settlements: mpsc::Receiver<Settlement>,
    unsettled: Unsettled,
}

impl<'a> Generation<'a> {
    /// At most `most` deliveries of the consumers are unsettled at any time.
    pub(super) fn new(
        subscriber: &'a Subscriber,
        link: &'a Link,
        channel: Channel,
        consumers: Consumers,
        most: usize,
    ) -> Self {
        let (settle, settlements) = mpsc::channel(most);
        Self {
            subscriber,
            link,
            channel,
            consumers,
            changing: None,
            is_subscribed: true,
            next: None,
            shelf: Arc::default(),
            settle,
            settlements,
            unsettled: Unsettled::default(),
        }
    }

    /// Delivers and settles until the link is lost, the broker closed, or nothing wanted any more.
    pub(super) async fn consume(mut self) -> Result<Infallible, LinkError> {
        let (limit, subscriber) = (self.settlements.max_capacity(), self.subscriber);
        let mut settlements = Vec::with_capacity(limit);
        let has_delivered = AtomicBool::new(false);
        let (link, channel) = (self.link, self.channel.clone());
        let mut checks = pin!(check(link, &channel, subscriber, &has_delivered));
        loop {
            if self.is_subscribed && self.changing.is_none() {
                let patience = subscriber.patience;
                let bounded = |changing| answered("changing the prefetch", patience, changing).boxed();
                self.changing = self.consumers.adapt().map(bounded);
            }
            if !self.is_subscribed && self.unsettled.is_empty() {
                return Err(LinkError::Unsubscribed);
            }
            tokio::select! {
                biased;
                _ = self.settlements.recv_many(&mut settlements, limit) => {
                    self.write(std::mem::take(&mut settlements)).await?;
                }
                () = subscriber.closing.cancelled() => {
                    self.settlements.close();
                    while self.settlements.recv_many(&mut settlements, limit).await > 0 {}
                    self.write(settlements).await?;
                    return Err(LinkError::Closed);
                }
                () = subscriber.incoming.closed(), if self.is_subscribed => self.unsubscribe().await?,
                // Before the deliveries, which may come without end.
                error = &mut checks, if self.is_subscribed => return Err(error),
                changed = end_of(&mut self.changing) => {
                    self.changing = None;
                    self.consumers.changed(changed?);
                }
                Ok(room) = subscriber.incoming.reserve(), if self.next.is_some() => {
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
        let undertaker = Arc::clone(&self.subscriber.undertaker);
        let receipt = AmqpReceipt::new(
            delivery,
            self.settle.clone(),
            undertaker,
            &self.subscriber.holdings,
        );
        self.next = Some(self.shelf.put(receipt));
    }

    async fn write(&mut self, settlements: Vec<Settlement>) -> Result<(), LinkError> {
        let verdicts = settlements
            .iter()
            .map(|settlement| (settlement.tag, settlement.verdict));
        let frames = self.unsettled.settle(verdicts);
        self.write_frames(frames).await?;
        for settlement in settlements {
            self.consumers.settled(settlement.tag);
            // Nobody waits for a receipt that was dropped.
            let _ = settlement.written.send(());
        }
        Ok(())
    }

    /// Bounded, because meanwhile nothing else of this link is looked after.
    async fn write_frames(&mut self, frames: Vec<Frame>) -> Result<(), LinkError> {
        let writing = try_join_all(frames.into_iter().map(|frame| write(&self.channel, frame)));
        let writing = async { writing.await.map(drop).map_err(LinkError::Lost) };
        answered("settling deliveries", self.subscriber.patience, writing).await
    }

    /// Lets the broker deliver elsewhere, and puts back what was not taken: what waits here by its receipt, what the
    /// client holds by hand. The broker's answer comes after its last delivery.
    async fn unsubscribe(&mut self) -> Result<(), LinkError> {
        self.is_subscribed = false;
        self.next = None;
        self.shelf.clear();
        let changing = self.changing.take();
        let consumers = &mut self.consumers;
        let cancel = async {
            if let Some(changing) = changing {
                consumers.changed(changing.await?);
            }
            consumers.cancel_all().await?;
            let mut left = Vec::new();
            while let Some(delivered) = consumers.next().await {
                left.push(delivered?.1.delivery_tag);
            }
            Ok(left)
        };
        let left = answered("cancelling the consumers", self.subscriber.patience, cancel).await?;
        left.iter().for_each(|tag| self.unsettled.delivered(*tag));
        let put_back = left.into_iter().map(|tag| (tag, Verdict::Requeue));
        let frames = self.unsettled.settle(put_back);
        self.write_frames(frames).await
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        // First, so that nothing is asked of a link that is over.
        self.settlements.close();
        self.shelf.clear();
    }
}

/// Ends when the link does, also where nothing says so: neither the connection's state, nor the consumer's stream.
async fn check(
    link: &Link,
    channel: &Channel,
    subscriber: &Subscriber,
    has_delivered: &AtomicBool,
) -> LinkError {
    let watching = async {
        let mut checks = interval(CHECK_INTERVAL);
        loop {
            checks.tick().await;
            link.check(channel)?;
        }
    };
    let asking = async {
        let mut without_consumer = 0;
        loop {
            tokio::time::sleep(subscriber.probe_interval).await;
            let asked = subscriber.topology.consumers(channel);
            let consumers = answered("a question in between", subscriber.patience, asked).await?;
            let lately = has_delivered.swap(false, Ordering::Relaxed);
            // Whatever was delivered lately shows that the consumer is known.
            without_consumer = match consumers {
                0 if !lately => without_consumer + 1,
                _ => 0,
            };
            if without_consumer >= FORGOTTEN_AFTER {
                return Err(LinkError::ConsumerForgotten);
            }
        }
    };
    either(watching, asking).await
}

async fn either(
    one: impl Future<Output = Result<Infallible, LinkError>>,
    other: impl Future<Output = Result<Infallible, LinkError>>,
) -> LinkError {
    match futures::future::try_join(one, other).await {
        Err(error) => error,
        Ok((never, _)) => match never {},
    }
}

/// Never where nothing is being changed.
async fn end_of(changing: &mut Option<Changing>) -> Result<Changed, LinkError> {
    match changing {
        Some(changing) => changing.await,
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
