//! What llm-bench asks of a message broker, as ports: publish with confirmation, consume with acknowledgement,
//! and look after dead letters.
//!
//! The backends are `broker-rabbitmq` and `broker-in-process`; both pass the tests of `broker-conformance`. A backend
//! reconnects by itself: its caller only sees [`PublishError::Unavailable`], or a [`Subscription`] that delivers nothing
//! for a while.

mod dead_letters;
mod delivery;
mod link;
mod memory_budget;
mod message;
mod prefetch;
mod publisher;

pub use dead_letters::{DeadLetter, DeadLetterError, DeadLetterSelection, DeadLetters, UnmatchedSelection};
pub use delivery::{Acknowledger, Delivery, SettleError, Subscription};
pub use link::{BrokerInfo, LinkState, LinkStatistics};
pub use memory_budget::{MemoryBudget, Reservation};
pub use message::OutgoingMessage;
pub use prefetch::{Prefetch, PrefetchUsage};
pub use publisher::{BoxError, PublishError, Publisher};

use std::sync::Arc;

use async_trait::async_trait;

/// A message broker.
#[async_trait]
pub trait Broker: Send + Sync + std::fmt::Debug {
    /// Publishes batches.
    fn publisher(&self) -> Arc<dyn Publisher>;

    /// Starts to consume the queue of batches with at most `prefetch` unsettled. Subscriptions, in any number of
    /// processes, compete for the messages.
    fn subscribe(&self, prefetch: Prefetch) -> Box<dyn Subscription>;

    /// Lists, replays and discards dead letters.
    fn dead_letters(&self) -> Arc<dyn DeadLetters>;

    /// The state of the link that consumes. For the link that publishes see [`Publisher::link`].
    fn consume_link(&self) -> LinkState;

    /// Reconnects and blocked time of all links that consume. Zeros where a backend has no connections.
    fn consume_statistics(&self) -> LinkStatistics {
        LinkStatistics::default()
    }

    /// What the subscriptions of this process hold unsettled now.
    fn prefetch_usage(&self) -> PrefetchUsage;

    /// The broker's version and the depths of its queues.
    ///
    /// # Errors
    /// The broker does not answer now.
    async fn info(&self) -> Result<BrokerInfo, PublishError>;

    /// Waits some seconds for the unconfirmed publishes, then closes the links. Unsettled deliveries go back to the
    /// queue.
    async fn close(&self);
}
