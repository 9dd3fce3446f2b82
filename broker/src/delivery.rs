use async_trait::async_trait;
use bytes::Bytes;

use crate::publisher::BoxError;

/// A delivery could not be settled, because its link is lost. The broker delivers the message again, so processing it must be
/// idempotent.
#[derive(Debug, thiserror::Error)]
#[error("the delivery could not be settled; it will come again")]
pub struct SettleError {
    /// What the broker's client reported.
    #[source]
    pub source: BoxError,
}

/// Settles one delivery at the broker; implemented by each backend. Dropping an acknowledger that was not used requeues the
/// message, at the latest when its link closes.
#[async_trait]
pub trait Acknowledger: Send + Sync {
    /// The message was processed: the broker may delete it.
    async fn ack(self: Box<Self>) -> Result<(), SettleError>;
    /// A transient fault prevented processing: the message goes back to the queue.
    async fn retry(self: Box<Self>) -> Result<(), SettleError>;
    /// The message can never be processed: it goes to the dead letters, with the reason.
    async fn reject(self: Box<Self>, reason: &str) -> Result<(), SettleError>;
}

/// A delivered message. The consumer settles it in exactly one of three ways: `ack`, `retry` or `reject`.
pub struct Delivery {
    /// The body as it was published.
    pub body: Bytes,
    /// Whether the broker has delivered the message before.
    pub redelivered: bool,
    acknowledger: Box<dyn Acknowledger>,
}

impl Delivery {
    /// A delivery that `acknowledger` settles. Called by backends.
    #[must_use]
    pub fn new(body: Bytes, redelivered: bool, acknowledger: Box<dyn Acknowledger>) -> Self {
        Self {
            body,
            redelivered,
            acknowledger,
        }
    }

    /// Confirms that the message's effect is committed.
    ///
    /// # Errors
    /// The link is lost. The broker delivers the message again.
    pub async fn ack(self) -> Result<(), SettleError> {
        self.acknowledger.ack().await
    }

    /// Puts the message back to the queue, because a transient fault prevented processing.
    ///
    /// # Errors
    /// The link is lost. The broker delivers the message again in any case.
    pub async fn retry(self) -> Result<(), SettleError> {
        self.acknowledger.retry().await
    }

    /// Moves the message to the dead letters, with the reason why it can never be processed.
    ///
    /// # Errors
    /// The link is lost. The broker delivers the message again.
    pub async fn reject(self, reason: &str) -> Result<(), SettleError> {
        self.acknowledger.reject(reason).await
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("bytes", &self.body.len())
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}

/// A consumer of the queue of batches.
///
/// A delivery that `next` has returned can still be settled after the subscription is dropped. Deliveries that were
/// prefetched and not returned then go back to the queue, even while returned ones are unsettled.
#[async_trait]
pub trait Subscription: Send {
    /// The next delivery. Waits while the link is rebuilt; `None` only after the broker was closed. Cancel-safe.
    async fn next(&mut self) -> Option<Delivery>;
}
