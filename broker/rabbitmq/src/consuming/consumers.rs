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
    holdings::{HoldingsRecord, Share},
    window::Window,
};
use crate::error::LinkError;

/// Counts the consumers of one channel.
pub(super) type ConsumerId = u64;

/// A delivery, or the consumer's end.
type Delivered = (ConsumerId, Option<lapin::Result<Delivery>>);

/// A change of the window that the broker is being asked for.
pub(super) type Changing = BoxFuture<'static, Result<Changed, LinkError>>;

/// What the broker has agreed to.
pub(super) enum Changed {
    Grown {
        consumer: Consumer,
        prefetch: usize,
    },
    /// Those that were cancelled end by themselves.
    Shrunk,
}

/// The consumers of one channel, which together are the subscription's window.
///
/// A consumer's prefetch is fixed, and the broker knows no limit in bytes. So the window grows by a consumer more, and
/// shrinks by the cancellation of the youngest: those that stay deliver all the while, and what a cancelled one has
/// delivered is settled over the channel like everything else. The first is never cancelled.
pub(super) struct Consumers {
    channel: Channel,
    queue: ShortString,
    members: BTreeMap<ConsumerId, Member>,
    streams: SelectAll<BoxStream<'static, Delivered>>,
    next_id: ConsumerId,
    window: Window,
    /// Whose the unsettled deliveries are.
    held: HashMap<DeliveryTag, ConsumerId>,
    share: Share,
}

struct Member {
    tag: ShortString,
    prefetch: usize,
    /// Of those that were received.
    unsettled: usize,
    state: MemberState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MemberState {
    Consuming,
    /// May still deliver.
    Cancelled,
    /// Delivers no more.
    Ended,
}

impl Member {
    /// How many deliveries of it can be out.
    fn window(&self) -> usize {
        match self.state {
            MemberState::Consuming | MemberState::Cancelled => self.prefetch,
            MemberState::Ended => self.unsettled,
        }
    }

    fn is_consuming(&self) -> bool {
        self.state == MemberState::Consuming
    }
}

impl Consumers {
    /// With the first consumer, which has a prefetch of 1.
    pub(super) fn new(
        channel: Channel,
        queue: ShortString,
        first: Consumer,
        limit: Prefetch,
        record: Arc<HoldingsRecord>,
    ) -> Self {
        let mut consumers = Self {
            channel,
            queue,
            members: BTreeMap::new(),
            streams: SelectAll::new(),
            next_id: 0,
            window: Window::new(limit),
            held: HashMap::new(),
            share: Share::new(record),
        };
        consumers.add(first, 1);
        consumers
    }

    /// The next delivery, and whose it is; `None` when all consumers have ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<(ConsumerId, Delivery), LinkError>> {
        while let Some((id, delivered)) = self.streams.next().await {
            if let Some(delivery) = delivered {
                return Some(delivery.map(|delivery| (id, delivery)).map_err(LinkError::Lost));
            }
            match self.members.get_mut(&id) {
                Some(member) if !member.is_consuming() => {
                    member.state = MemberState::Ended;
                    self.forget_if_over(id);
                }
                _ => return Some(Err(LinkError::ConsumerCancelled)),
            }
        }
        None
    }

    pub(super) fn received(&mut self, id: ConsumerId, delivery: &Delivery) {
        self.held.insert(delivery.delivery_tag, id);
        self.window.seen(delivery.data.len(), self.held.len());
        if let Some(member) = self.members.get_mut(&id) {
            member.unsettled += 1;
        }
    }

    pub(super) fn settled(&mut self, tag: DeliveryTag) {
        let Some(id) = self.held.remove(&tag) else { return };
        if let Some(member) = self.members.get_mut(&id) {
            member.unsettled -= 1;
        }
        self.forget_if_over(id);
    }

    /// Asks for another window, where what was seen calls for it.
    pub(super) fn adapt(&mut self) -> Option<Changing> {
        let (now, others) = (self.consuming(), self.leaving());
        let wanted = self.window.wanted(now, others);
        let changing = match wanted.checked_sub(now) {
            Some(0) => return None,
            Some(more) => self.grow(more),
            None => self.shrink(wanted)?,
        };
        tracing::debug!(prefetch = wanted, prefetch.before = now, "another prefetch");
        Some(changing)
    }

    pub(super) fn changed(&mut self, changed: Changed) {
        if let Changed::Grown { consumer, prefetch } = changed {
            self.add(consumer, prefetch);
        }
    }

    /// Cancels all; what they have delivered until then comes before their end.
    pub(super) fn cancel_all(&mut self) -> Changing {
        self.cancel(|_| true)
    }

    fn add(&mut self, consumer: Consumer, prefetch: usize) {
        let id = self.next_id;
        self.next_id += 1;
        let member = Member {
            tag: consumer.tag(),
            prefetch,
            unsettled: 0,
            state: MemberState::Consuming,
        };
        self.members.insert(id, member);
        let delivered = consumer.map(Some).chain(once(ready(None)));
        self.streams
            .push(delivered.map(move |delivery| (id, delivery)).boxed());
        self.share.set(self.consuming());
    }

    fn grow(&self, more: usize) -> Changing {
        let (channel, queue) = (self.channel.clone(), self.queue.clone());
        async move {
            let consumer = consume(&channel, &queue, more).await?;
            Ok(Changed::Grown {
                consumer,
                prefetch: more,
            })
        }
        .boxed()
    }

    /// Cancels the youngest until what stays is no more than `wanted`. Nothing where only the first is left.
    fn shrink(&mut self, wanted: usize) -> Option<Changing> {
        let mut stays = 0;
        let youngest = self.members.iter().filter(|(_, member)| member.is_consuming());
        let first_to_go = youngest.skip_while(|(_, member)| {
            stays += member.prefetch;
            stays <= wanted
        });
        let first_to_go = first_to_go.map(|(id, _)| *id).next()?;
        Some(self.cancel(|id| id >= first_to_go))
    }

    fn cancel(&mut self, which: impl Fn(ConsumerId) -> bool) -> Changing {
        let mut tags = Vec::new();
        for (id, member) in &mut self.members {
            if member.is_consuming() && which(*id) {
                member.state = MemberState::Cancelled;
                tags.push(member.tag.clone());
            }
        }
        self.share.set(self.consuming());
        let channel = self.channel.clone();
        async move {
            let cancels = tags
                .into_iter()
                .map(|tag| channel.basic_cancel(tag, BasicCancelOptions::default()));
            try_join_all(cancels).await.map_err(LinkError::Lost)?;
            Ok(Changed::Shrunk)
        }
        .boxed()
    }

    fn consuming(&self) -> usize {
        let consuming = self.members.values().filter(|member| member.is_consuming());
        consuming.map(Member::window).sum()
    }

    fn leaving(&self) -> usize {
        let leaving = self.members.values().filter(|member| !member.is_consuming());
        leaving.map(Member::window).sum()
    }

    fn forget_if_over(&mut self, id: ConsumerId) {
        let is_over = |member: &Member| member.state == MemberState::Ended && member.unsettled == 0;
        if self.members.get(&id).is_some_and(is_over) {
            self.members.remove(&id);
        }
    }
}

/// A new consumer of the channel, with a prefetch of its own.
pub(super) async fn consume(
    channel: &Channel,
    queue: &ShortString,
    prefetch: usize,
) -> Result<Consumer, LinkError> {
    // A window has at most `u16::MAX`; 0 would be no limit.
    let prefetch = u16::try_from(prefetch).unwrap_or(u16::MAX).max(1);
    // Before consuming, or the whole queue is delivered at once; per consumer, because quorum queues refuse a limit for
    // the channel.
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
