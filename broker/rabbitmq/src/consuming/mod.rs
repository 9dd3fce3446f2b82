//! Consuming: a subscription, and the task that owns the channel behind it.

mod acknowledger;
mod adaptive_prefetch;
mod consumers;
mod link;
mod prefetch_usage;
mod session;
mod undelivered_buffer;
mod unsettled_tags;

pub(crate) use link::ConsumingLink;
pub(crate) use prefetch_usage::PrefetchUsageCounters;

use async_trait::async_trait;
use broker::{Delivery, Subscription};
use tokio::sync::mpsc;

use self::undelivered_buffer::BufferedDelivery;

/// A subscription: receives the deliveries of one connection after another.
#[derive(Debug)]
pub(crate) struct RabbitMqSubscription {
    deliveries: mpsc::Receiver<BufferedDelivery>,
}

#[async_trait]
impl Subscription for RabbitMqSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let acknowledger = self.deliveries.recv().await?.take();
            // The broker delivers the messages of a lost link again over the next one.
            if let Some(acknowledger) = acknowledger.filter(|acknowledger| !acknowledger.is_stale()) {
                let (body, redelivered) = (acknowledger.body(), acknowledger.is_redelivered());
                return Some(Delivery::new(body, redelivered, Box::new(acknowledger)));
            }
        }
    }
}
