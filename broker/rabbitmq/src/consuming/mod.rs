//! Consuming: a subscription, and the task that owns the channel behind it.

mod generation;
mod link;
mod receipt;
mod unsettled;

pub(crate) use link::ConsumingLink;
pub(crate) use receipt::Received;

use async_trait::async_trait;
use broker::{Delivery, Subscription};
use tokio::sync::mpsc;

use self::receipt::AmqpReceipt;

/// A delivery on its way to whoever consumes.
#[derive(Debug)]
struct Incoming {
    redelivered: bool,
    receipt: AmqpReceipt,
}

/// The deliveries of all generations of one consumer.
#[derive(Debug)]
pub(crate) struct RabbitMqSubscription {
    incoming: mpsc::Receiver<Incoming>,
}

#[async_trait]
impl Subscription for RabbitMqSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let Incoming { redelivered, receipt } = self.incoming.recv().await?;
            // What a lost link had delivered comes again over the next one.
            if !receipt.is_stale() {
                return Some(Delivery::new(receipt.body(), redelivered, Box::new(receipt)));
            }
        }
    }
}
