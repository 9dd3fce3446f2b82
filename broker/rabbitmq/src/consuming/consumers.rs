use std::{
    collections::{BTreeMap, HashMap},
    future::ready,
    sync::Arc,
};

use broker::Prefetch;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, try_join_all},
    stream::{BoxStream, SelectAll, once},
};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{DeliveryTag, FieldTable, ShortString},
};

use super::{
    adaptive_prefetch::AdaptivePrefetch,
    prefetch_usage::{ChannelPrefetch, PrefetchUsageCounters},
};
use crate::error::LinkError;

/// Numbers the consumers of one channel, from 0 upwards in the order of their creation.
pub(super) type ConsumerId = u64;

/// A delivery, or `None` when the consumer has ended.
type Delivered = (ConsumerId, Option<lapin::Result<Delivery>>);

/// A change of the prefetch that the broker has not confirmed yet.
pub(super) type PendingChange = BoxFuture<'static, Result<PrefetchChange, LinkError>>;

/// A change of the prefetch that the broker has confirmed.
pub(super) enum PrefetchChange {
    Grown {
        consumer: Consumer,
        prefetch: usize,
    },
    /// The streams of the cancelled consumers end by themselves.
    Shrunk,
}

/// The consumers of one channel. The sum of their prefetches is the subscription's prefetch.
///
/// AMQP fixes a consumer's prefetch when the consumer starts, and RabbitMQ has no limit in bytes. Therefore the prefetch
/// grows by starting another consumer and shrinks by cancelling the youngest ones. The other consumers deliver meanwhile.
/// Deliveries of a cancelled consumer are settled over the channel like all others. The first consumer is never cancelled.
pub(super) struct Consumers {
    channel: Channel,
    queue: ShortString,
    consumers: BTreeMap<ConsumerId, ChannelConsumer>,
    streams: SelectAll<BoxStream<'static, Delivered>>,
    next_id: ConsumerId,
    prefetch: AdaptivePrefetch,
    /// The consumer of each unsettled delivery.
    unsettled: HashMap<DeliveryTag, ConsumerId>,
    channel_prefetch: ChannelPrefetch,
}

struct ChannelConsumer {
    tag: ShortString,
    prefetch: usize,
    /// How many of its received deliveries are unsettled.
    unsettled: usize,
    state: ConsumerState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ConsumerState {
    Consuming,
    /// The broker may still deliver.
    Cancelled,
    /// The broker delivers no more.
    Ended,
}

impl ChannelConsumer {
    /// How many of its deliveries can be unsettled.
    fn max_unsettled(&self) -> usize {
        match self.state {
            ConsumerState::Consuming | ConsumerState::Cancelled => self.prefetch,
            ConsumerState::Ended => self.unsettled,
        }
    }

    fn is_consuming(&self) -> bool {
        self.state == ConsumerState::Consuming
    }
}

impl Consumers {
    /// `first` has a prefetch of 1.
    pub(super) fn new(
        channel: Channel,
        queue: ShortString,
        first: Consumer,
        limit: Prefetch,
        usage: Arc<PrefetchUsageCounters>,
    ) -> Self {
        let mut consumers = Self {
            channel,
            queue,
            consumers: BTreeMap::new(),
            streams: SelectAll::new(),
            next_id: 0,
            prefetch: AdaptivePrefetch::new(limit),
            unsettled: HashMap::new(),
            channel_prefetch: ChannelPrefetch::new(usage),
        };
        consumers.add(first, 1);
        consumers
    }

    /// The next delivery and its consumer; `None` when all consumers have ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<(ConsumerId, Delivery), LinkError>> {
        while let Some((id, delivered)) = self.streams.next().await {
            if let Some(delivery) = delivered {
                return Some(delivery.map(|delivery| (id, delivery)).map_err(LinkError::Lost));
            }
            match self.consumers.get_mut(&id) {
                Some(consumer) if !consumer.is_consuming() => {
                    consumer.state = ConsumerState::Ended;
                    self.remove_if_finished(id);
                }
                _ => return Some(Err(LinkError::ConsumerCancelled)),
            }
        }
        None
    }

    pub(super) fn received(&mut self, id: ConsumerId, delivery: &Delivery) {
        self.unsettled.insert(delivery.delivery_tag, id);
        self.prefetch.record(delivery.data.len(), self.unsettled.len());
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.unsettled += 1;
        }
    }

    pub(super) fn settled(&mut self, tag: DeliveryTag) {
        let Some(id) = self.unsettled.remove(&tag) else {
            return;
        };
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.unsettled -= 1;
        }
        self.remove_if_finished(id);
    }

    /// Starts to change the prefetch, where the recent deliveries call for another one.
    pub(super) fn adapt(&mut self) -> Option<PendingChange> {
        let (current, draining) = (self.consuming(), self.draining());
        let target = self.prefetch.target(current, draining);
        let change = match target.checked_sub(current) {
            Some(0) => return None,
            Some(more) => self.grow(more),
            None => self.shrink(target)?,
        };
        tracing::debug!(prefetch = target, prefetch.before = current, "another prefetch");
        Some(change)
    }

    pub(super) fn changed(&mut self, change: PrefetchChange) {
        if let PrefetchChange::Grown { consumer, prefetch } = change {
            self.add(consumer, prefetch);
        }
    }

    /// Cancels all consumers. Their streams end after the deliveries that the broker has sent until then.
    pub(super) fn cancel_all(&mut self) -> PendingChange {
        self.cancel(|_| true)
    }

    fn add(&mut self, consumer: Consumer, prefetch: usize) {
        let id = self.next_id;
        self.next_id += 1;
        let state = ChannelConsumer {
            tag: consumer.tag(),
            prefetch,
            unsettled: 0,
            state: ConsumerState::Consuming,
        };
        self.consumers.insert(id, state);
        let delivered = consumer.map(Some).chain(once(ready(None)));
        self.streams
            .push(delivered.map(move |delivery| (id, delivery)).boxed());
        self.channel_prefetch.set(self.consuming());
    }

    fn grow(&self, more: usize) -> PendingChange {
        let (channel, queue) = (self.channel.clone(), self.queue.clone());
        async move {
            let consumer = consume(&channel, &queue, more).await?;
            Ok(PrefetchChange::Grown {
                consumer,
                prefetch: more,
            })
        }
        .boxed()
    }

    /// Cancels the youngest consumers until the prefetch is at most `target`. `None` where only the first consumer is left.
    fn shrink(&mut self, target: usize) -> Option<PendingChange> {
        let mut kept = 0;
        let consuming = self
            .consumers
            .iter()
            .filter(|(_, consumer)| consumer.is_consuming());
        let first_cancelled = consuming.skip_while(|(_, consumer)| {
            kept += consumer.prefetch;
            kept <= target
        });
        let first_cancelled = first_cancelled.map(|(id, _)| *id).next()?;
        Some(self.cancel(|id| id >= first_cancelled))
    }

    fn cancel(&mut self, which: impl Fn(ConsumerId) -> bool) -> PendingChange {
        let mut tags = Vec::new();
        for (id, consumer) in &mut self.consumers {
            if consumer.is_consuming() && which(*id) {
                consumer.state = ConsumerState::Cancelled;
                tags.push(consumer.tag.clone());
            }
        }
        self.channel_prefetch.set(self.consuming());
        let channel = self.channel.clone();
        async move {
            let cancels = tags
                .into_iter()
                .map(|tag| channel.basic_cancel(tag, BasicCancelOptions::default()));
            try_join_all(cancels).await.map_err(LinkError::Lost)?;
            Ok(PrefetchChange::Shrunk)
        }
        .boxed()
    }

    /// The prefetch of the consumers that are not cancelled.
    fn consuming(&self) -> usize {
        let consuming = self.consumers.values().filter(|consumer| consumer.is_consuming());
        consuming.map(ChannelConsumer::max_unsettled).sum()
    }

    /// How many deliveries of cancelled and ended consumers can be unsettled.
    fn draining(&self) -> usize {
        let draining = self
            .consumers
            .values()
            .filter(|consumer| !consumer.is_consuming());
        draining.map(ChannelConsumer::max_unsettled).sum()
    }

    fn remove_if_finished(&mut self, id: ConsumerId) {
        let is_finished =
            |consumer: &ChannelConsumer| consumer.state == ConsumerState::Ended && consumer.unsettled == 0;
        if self.consumers.get(&id).is_some_and(is_finished) {
            self.consumers.remove(&id);
        }
    }
}

/// Starts a consumer of the channel, with a prefetch of its own.
pub(super) async fn consume(
    channel: &Channel,
    queue: &ShortString,
    prefetch: usize,
) -> Result<Consumer, LinkError> {
    // A prefetch has at most `u16::MAX`; for AMQP 0 means no limit.
    let prefetch = u16::try_from(prefetch).unwrap_or(u16::MAX).max(1);
    // Set before consuming, or the broker delivers the whole queue at once. Per consumer, because quorum queues refuse a
    // limit for the channel.
    channel
        .basic_qos(prefetch, BasicQosOptions { global: false })
        .await
        .map_err(LinkError::Channel)?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    channel
        .basic_consume(queue.clone(), "".into(), options, arguments)
        .await
        .map_err(|source| LinkError::Consume {
            queue: queue.to_string(),
            source,
        })
}
