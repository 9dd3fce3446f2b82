use std::sync::Arc;

use async_trait::async_trait;
use broker::{Delivery, Prefetch, Receipt, SettleError, Subscription};

use crate::{
    holdings::{Held, Holder, HoldingsRecord},
    queue::{Closed, Message, Queue},
};

/// One of the consumers that compete for the queue.
#[derive(Debug)]
pub(crate) struct InProcessSubscription {
    queue: Arc<Queue>,
    holder: Holder,
}

impl InProcessSubscription {
    pub(crate) fn new(queue: Arc<Queue>, prefetch: Prefetch, record: HoldingsRecord) -> Self {
        Self {
            queue,
            holder: Holder::new(prefetch, record),
        }
    }
}

#[async_trait]
impl Subscription for InProcessSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        let take = async {
            let turn = self.holder.turn().await;
            (self.queue.take().await, turn)
        };
        let (message, turn) = tokio::select! {
            biased;
            () = self.queue.closed() => return None,
            taken = take => taken,
        };
        let (body, redelivered) = (message.body.clone(), message.redelivered);
        let receipt = QueueReceipt {
            queue: Arc::clone(&self.queue),
            message: Some(message),
            _held: self.holder.hold(turn, body.len()),
        };
        Some(Delivery::new(body, redelivered, Box::new(receipt)))
    }
}

/// Settles one message; dropped before that, it puts the message back.
struct QueueReceipt {
    queue: Arc<Queue>,
    message: Option<Message>,
    /// After the message: what is held is settled before another one comes.
    _held: Held,
}

impl QueueReceipt {
    fn settle(&mut self, how: impl FnOnce(&Queue, Message) -> Result<(), Closed>) -> Result<(), SettleError> {
        let Some(message) = self.message.take() else {
            return Ok(());
        };
        how(&self.queue, message).map_err(|closed| SettleError {
            source: Box::new(closed),
        })
    }
}

#[async_trait]
impl Receipt for QueueReceipt {
    async fn ack(mut self: Box<Self>) -> Result<(), SettleError> {
        self.settle(|queue, message| queue.acknowledge(&message))
    }

    async fn retry(mut self: Box<Self>) -> Result<(), SettleError> {
        self.settle(Queue::requeue)
    }

    async fn reject(mut self: Box<Self>, reason: &str) -> Result<(), SettleError> {
        self.settle(|queue, message| queue.bury(message, reason))
    }
}

impl Drop for QueueReceipt {
    fn drop(&mut self) {
        // Where the broker is closed there is no queue to put it back to, and its publisher knows.
        let _ = self.settle(Queue::requeue);
    }
}
