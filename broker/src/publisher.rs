use async_trait::async_trait;

use crate::{LinkState, LinkStatistics, OutgoingMessage};

/// An error of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a message is not known to be stored by the broker. The caller publishes it again later, with the same id.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No link is usable now. The message was not sent.
    #[error("the broker is unavailable: {reason}")]
    Unavailable {
        /// Why the link is not usable.
        reason: String,
    },
    /// The message was sent and not confirmed in time: the broker may or may not have it.
    #[error("the broker did not confirm")]
    Unconfirmed {
        /// Why the publisher stopped waiting.
        #[source]
        source: BoxError,
    },
    /// The broker refused it: the queue is full, or no queue is bound.
    #[error("the broker refused the message: {reason}")]
    Refused {
        /// What the broker gave as the reason.
        reason: String,
    },
}

/// Publishes batches. Any number of tasks share it.
#[async_trait]
pub trait Publisher: Send + Sync + std::fmt::Debug {
    /// Publishes a message and waits for the broker's confirmation. The number of unconfirmed publishes is limited; a call
    /// beyond the limit waits.
    ///
    /// After this returns `Ok` the caller may delete its own copy of the message. RabbitMQ has then confirmed the message
    /// and routed it to at least one queue. The in-process broker keeps messages in memory, so it confirms a message only
    /// when a consumer has settled it.
    async fn publish(&self, message: &OutgoingMessage) -> Result<(), PublishError>;

    /// The state of the link that publishes.
    fn link(&self) -> LinkState;

    /// Reconnects and blocked time of the link. Zeros where a backend has no connections.
    fn statistics(&self) -> LinkStatistics {
        LinkStatistics::default()
    }
}
