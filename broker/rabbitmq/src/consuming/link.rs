use std::{num::NonZeroU16, sync::Arc};

use broker::LinkState;
use futures::{StreamExt, future::try_join_all};
use lapin::{
    Channel, Consumer,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Incoming, RabbitMqSubscription,
    receipt::{AmqpReceipt, Settlement, Undertaker},
    unsettled::{Frame, Unsettled},
};
use crate::{
    RabbitMqSettings,
    error::{LinkError, answered},
    link::{CHECK_INTERVAL, Link},
    publishing::Lane,
    supervisor::Supervised,
    topology::Topology,
};

/// The connection of one subscription. It publishes nothing (dead letters go through the publishing connection), so
/// that an alarm of the broker does not hold up its acknowledgements.
#[derive(Debug)]
pub(crate) struct ConsumingLink {
    settings: Arc<RabbitMqSettings>,
    topology: Topology,
    prefetch: NonZeroU16,
    incoming: mpsc::Sender<Incoming>,
    state: watch::Sender<LinkState>,
    undertaker: Arc<Undertaker>,
    closing: CancellationToken,
}

impl ConsumingLink {
    pub(crate) fn new(
        settings: Arc<RabbitMqSettings>,
        topology: Topology,
        prefetch: NonZeroU16,
        lane: Lane,
        closing: CancellationToken,
    ) -> (Self, RabbitMqSubscription, watch::Receiver<LinkState>) {
        let (incoming, receiver) = mpsc::channel(usize::from(prefetch.get()));
        let (state, watched) = watch::channel(LinkState::Down {
            reason: "connecting".to_owned(),
        });
        let undertaker = Undertaker {
            lane,
            clock: Arc::clone(&settings.clock),
        };
        let link = Self {
            settings,
            topology,
            prefetch,
            incoming,
            state,
            undertaker: Arc::new(undertaker),
            closing,
        };
        (link, RabbitMqSubscription { incoming: receiver }, watched)
    }

    async fn connect(&self) -> Result<(Link, Channel, Consumer), LinkError> {
        let link = Link::open_declared(&self.settings, &self.topology, "consuming").await?;
        let patience = self.settings.connect_timeout;
        let (channel, consumer) = answered("consuming from the queue", patience, self.begin(&link)).await?;
        Ok((link, channel, consumer))
    }

    async fn begin(&self, link: &Link) -> Result<(Channel, Consumer), LinkError> {
        let channel = link.channel().await?;
        // Before consuming, or the whole queue is delivered at once; per consumer, because quorum queues refuse a
        // limit for the channel.
        channel
            .basic_qos(self.prefetch.get(), BasicQosOptions { global: false })
            .await
            .map_err(LinkError::Channel)?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel
            .basic_consume(self.topology.queue.clone(), "".into(), options, arguments)
            .await
            .map_err(LinkError::Channel)?;
        Ok((channel, consumer))
    }
}

impl Supervised for ConsumingLink {
    const NAME: &'static str = "consuming";

    async fn run(&mut self) -> LinkError {
        let (link, channel, consumer) = match self.closing.run_until_cancelled(self.connect()).await {
            None => return LinkError::Closed,
            Some(Err(error)) => return error,
            Some(Ok(connected)) => connected,
        };
        self.state.send_replace(LinkState::Ready);
        tracing::info!(prefetch = self.prefetch, "consuming");
        let (settle, settlements) = mpsc::channel(usize::from(self.prefetch.get()));
        let delivering = channel.clone();
        let generation = Generation {
            consuming: self,
            link: &link,
            channel,
            consumer: Some(consumer),
            next: None,
            settle,
            settlements,
            unsettled: Unsettled::default(),
        };
        let Err(reason) = generation.consume().await;
        link.close_channel(&delivering).await;
        link.close().await;
        reason
    }

    fn down(&mut self, reason: String) {
        self.state.send_replace(LinkState::Down { reason });
    }

    fn is_wanted(&self) -> bool {
        !self.incoming.is_closed()
    }
}

/// What one connection delivers, and what is settled over it.
struct Generation<'a> {
    consuming: &'a ConsumingLink,
    link: &'a Link,
    channel: Channel,
    /// `None` when nobody wants deliveries any more, and only those already given out are still to be settled.
    consumer: Option<Consumer>,
    /// A delivery for which there is no room yet.
    next: Option<Incoming>,
    settle: mpsc::Sender<Settlement>,
    settlements: mpsc::Receiver<Settlement>,
    unsettled: Unsettled,
}

impl Generation<'_> {
    async fn consume(mut self) -> Result<std::convert::Infallible, LinkError> {
        let limit = usize::from(self.consuming.prefetch.get());
        let mut settlements = Vec::with_capacity(limit);
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        let incoming = &self.consuming.incoming;
        loop {
            if self.consumer.is_none() && self.unsettled.is_empty() {
                return Err(LinkError::Unsubscribed);
            }
            tokio::select! {
                biased;
                _ = self.settlements.recv_many(&mut settlements, limit) => {
                    self.write(std::mem::take(&mut settlements)).await?;
                }
                () = self.consuming.closing.cancelled() => {
                    self.settlements.close();
                    while self.settlements.recv_many(&mut settlements, limit).await > 0 {}
                    self.write(settlements).await?;
                    return Err(LinkError::Closed);
                }
                () = incoming.closed(), if self.consumer.is_some() => self.unsubscribe().await?,
                Ok(room) = incoming.reserve(), if self.next.is_some() => if let Some(next) = self.next.take() {
                    room.send(next);
                },
                delivery = next_of(&mut self.consumer), if self.next.is_none() => self.receive(delivery)?,
                _ = checks.tick() => self.link.check(&self.channel)?,
            }
        }
    }

    fn receive(
        &mut self,
        delivery: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<(), LinkError> {
        let delivery = delivery
            .ok_or(LinkError::ConsumerCancelled)?
            .map_err(LinkError::Lost)?;
        self.unsettled.delivered(delivery.delivery_tag);
        let undertaker = Arc::clone(&self.consuming.undertaker);
        self.next = Some(Incoming {
            redelivered: delivery.redelivered,
            receipt: AmqpReceipt::new(delivery, self.settle.clone(), undertaker),
        });
        Ok(())
    }

    async fn write(&mut self, settlements: Vec<Settlement>) -> Result<(), LinkError> {
        let verdicts = settlements
            .iter()
            .map(|settlement| (settlement.tag, settlement.verdict));
        let frames = self.unsettled.settle(verdicts);
        let channel = &self.channel;
        try_join_all(frames.into_iter().map(|frame| write(channel, frame)))
            .await
            .map_err(LinkError::Lost)?;
        for settlement in settlements {
            // Nobody waits for a receipt that was dropped.
            let _ = settlement.written.send(());
        }
        Ok(())
    }

    /// Lets the broker deliver elsewhere. What was not taken goes back: what waits here by its receipt, what the client
    /// holds when the link is closed.
    async fn unsubscribe(&mut self) -> Result<(), LinkError> {
        self.next = None;
        if let Some(consumer) = self.consumer.take() {
            self.channel
                .basic_cancel(consumer.tag(), BasicCancelOptions::default())
                .await
                .map_err(LinkError::Lost)?;
        }
        Ok(())
    }
}

async fn next_of(consumer: &mut Option<Consumer>) -> Option<lapin::Result<lapin::message::Delivery>> {
    match consumer {
        Some(consumer) => consumer.next().await,
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
