//! What llm-bench asks of a message broker, as ports: publish with confirmation, consume with acknowledgement,
//! and look after dead letters.
//!
//! The backends are `broker-rabbitmq` and `broker-in-process`; both pass the tests of `broker-conformance`. A backend
//! reconnects by itself: its caller only sees [`PublishError::Unavailable`], or a [`Subscription`] that delivers nothing
//! for a while.

mod dead_letters;
mod delivery;
mod link;
mod message;
mod prefetch;
mod publisher;

pub use dead_letters::{DeadLetter, DeadLetterError, DeadLetters, Selection, Wanted};
pub use delivery::{Delivery, Receipt, SettleError, Subscription};
pub use link::{BrokerInfo, LinkState, LinkStatistics};
pub use message::OutgoingMessage;
pub use prefetch::{Holdings, Prefetch};
pub use publisher::{BoxError, PublishError, Publisher};

use std::sync::Arc;

use async_trait::async_trait;

/// Everything a service needs of its broker.
#[async_trait]
pub trait Broker: Send + Sync + std::fmt::Debug {
    /// Where batches are published.
    fn publisher(&self) -> Arc<dyn Publisher>;

    /// Starts to consume the queue of batches. At most `prefetch` is unsettled at any time. Several subscriptions, in
    /// any number of processes, compete for the messages.
    fn subscribe(&self, prefetch: Prefetch) -> Box<dyn Subscription>;

    /// The dead letters.
    fn dead_letters(&self) -> Arc<dyn DeadLetters>;

    /// How the link for consuming is; the link for publishing is the [`Publisher`]'s.
    fn consume_link(&self) -> LinkState;

    /// What the links for consuming have been through, all together. Zeros where nothing can be lost or blocked.
    fn consume_statistics(&self) -> LinkStatistics {
        LinkStatistics::default()
    }

    /// What the subscriptions hold now.
    fn holdings(&self) -> Holdings;

    /// Version, and the depth of the queues.
    ///
    /// # Errors
    /// When the broker cannot be asked now.
    async fn info(&self) -> Result<BrokerInfo, PublishError>;

    /// Waits for what is in flight to be confirmed (within a few seconds), then closes the links; unsettled
    /// deliveries go back to the queue.
    async fn close(&self);
}
