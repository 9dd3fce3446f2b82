use std::sync::Arc;

use async_trait::async_trait;
use broker::{Acknowledger, Delivery, Prefetch, SettleError, Subscription};

use crate::{
    prefetch_usage::{PrefetchLimiter, PrefetchUsageCounters, UsageGuard},
    queue::{Closed, Message, Queue},
};

/// One consumer of the queue. Several consumers compete for its messages.
#[derive(Debug)]
pub(crate) struct InProcessSubscription {
    queue: Arc<Queue>,
    limiter: PrefetchLimiter,
}

impl InProcessSubscription {
    pub(crate) fn new(queue: Arc<Queue>, prefetch: Prefetch, usage: PrefetchUsageCounters) -> Self {
        Self {
            queue,
            limiter: PrefetchLimiter::new(prefetch, usage),
        }
    }
}

#[async_trait]
impl Subscription for InProcessSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        let take = async {
            let permit = self.limiter.acquire().await;
            (self.queue.take().await, permit)
        };
        let (message, permit) = tokio::select! {
            biased;
            () = self.queue.closed() => return None,
            taken = take => taken,
        };
        let (body, redelivered) = (message.body.clone(), message.redelivered);
        let acknowledger = QueueAcknowledger {
            queue: Arc::clone(&self.queue),
            message: Some(message),
            _usage: self.limiter.hold(permit, body.len()),
        };
        Some(Delivery::new(body, redelivered, Box::new(acknowledger)))
    }
}

/// Settles one message. Dropping it unused requeues the message.
struct QueueAcknowledger {
    queue: Arc<Queue>,
    message: Option<Message>,
    /// Dropped after the message is settled, so that the next delivery comes only then.
    _usage: UsageGuard,
}

impl QueueAcknowledger {
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
impl Acknowledger for QueueAcknowledger {
    async fn ack(mut self: Box<Self>) -> Result<(), SettleError> {
        self.settle(|queue, message| queue.acknowledge(&message))
    }

    async fn retry(mut self: Box<Self>) -> Result<(), SettleError> {
        self.settle(Queue::requeue)
    }

    async fn reject(mut self: Box<Self>, reason: &str) -> Result<(), SettleError> {
        self.settle(|queue, message| queue.add_dead_letter(message, reason))
    }
}

impl Drop for QueueAcknowledger {
    fn drop(&mut self) {
        // Fails where the broker is closed; the publisher has got an error then.
        let _ = self.settle(Queue::requeue);
    }
}
