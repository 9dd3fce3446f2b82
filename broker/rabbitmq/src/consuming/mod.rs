//! Consuming: a subscription, and the task that owns the channel behind it.

mod consumers;
mod generation;
mod holdings;
mod link;
mod receipt;
mod shelf;
mod unsettled;
mod window;

pub(crate) use holdings::HoldingsRecord;
pub(crate) use link::ConsumingLink;

use async_trait::async_trait;
use broker::{Delivery, Subscription};
use tokio::sync::mpsc;

use self::shelf::Incoming;

/// The deliveries of all generations of one subscription.
#[derive(Debug)]
pub(crate) struct RabbitMqSubscription {
    incoming: mpsc::Receiver<Incoming>,
}

#[async_trait]
impl Subscription for RabbitMqSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let receipt = self.incoming.recv().await?.take();
            // What a lost link had delivered comes again over the next one.
            if let Some(receipt) = receipt.filter(|receipt| !receipt.is_stale()) {
                let (body, redelivered) = (receipt.body(), receipt.is_redelivered());
                return Some(Delivery::new(body, redelivered, Box::new(receipt)));
            }
        }
    }
}
