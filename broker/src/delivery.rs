use async_trait::async_trait;
use bytes::Bytes;

use crate::publisher::BoxError;

/// A delivery could not be settled: its link is gone. The broker delivers it again; whatever was done for it must
/// bear being done twice.
#[derive(Debug, thiserror::Error)]
#[error("the delivery could not be settled; it will come again")]
pub struct SettleError {
    /// What the broker's client said.
    #[source]
    pub source: BoxError,
}

/// The backend's half of a delivery: settles it, once. A receipt that is dropped unsettled behaves as `retry`, at
/// the latest when its link closes.
#[async_trait]
pub trait Receipt: Send + Sync {
    /// Done: the broker may forget it.
    async fn ack(self: Box<Self>) -> Result<(), SettleError>;
    /// Not done, for a reason that will pass: back to the queue.
    async fn retry(self: Box<Self>) -> Result<(), SettleError>;
    /// Never to be done: to the dead letters, with the reason.
    async fn reject(self: Box<Self>, reason: &str) -> Result<(), SettleError>;
}

/// A message that was delivered and is to be settled in exactly one of three ways.
pub struct Delivery {
    /// The body, as it was published.
    pub body: Bytes,
    /// The broker has delivered it before.
    pub redelivered: bool,
    receipt: Box<dyn Receipt>,
}

impl Delivery {
    /// For backends.
    #[must_use]
    pub fn new(body: Bytes, redelivered: bool, receipt: Box<dyn Receipt>) -> Self {
        Self {
            body,
            redelivered,
            receipt,
        }
    }

    /// Its effect is committed.
    ///
    /// # Errors
    /// The link is gone: it will come again.
    pub async fn ack(self) -> Result<(), SettleError> {
        self.receipt.ack().await
    }

    /// A transient fault prevented it: back to the queue.
    ///
    /// # Errors
    /// The link is gone: it will come again anyway.
    pub async fn retry(self) -> Result<(), SettleError> {
        self.receipt.retry().await
    }

    /// It can never be processed: to the dead letters, with the reason.
    ///
    /// # Errors
    /// The link is gone: it will come again.
    pub async fn reject(self, reason: &str) -> Result<(), SettleError> {
        self.receipt.reject(reason).await
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
/// Deliveries that were taken outlive it: they can still be settled after it was dropped. Those that were not taken go
/// back to the queue soon, whether the taken ones are settled or not.
#[async_trait]
pub trait Subscription: Send {
    /// The next delivery. Silent while the link is rebuilt; `None` only after the broker was closed. Cancel-safe.
    async fn next(&mut self) -> Option<Delivery>;
}
