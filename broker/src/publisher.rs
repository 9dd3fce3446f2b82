use async_trait::async_trait;

use crate::{LinkState, LinkStatistics, OutgoingMessage};

/// A cause, whatever its type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a message is not known to be with the broker. In every case the cure is the same: publish it again later,
/// with the same id.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no usable link now. The message was not sent.
    #[error("the broker is unavailable: {reason}")]
    Unavailable {
        /// What is known of the link.
        reason: String,
    },
    /// The message was sent and no confirmation came (in time): it may or may not be with the broker.
    #[error("the broker did not confirm")]
    Unconfirmed {
        /// What ended the wait.
        #[source]
        source: BoxError,
    },
    /// The broker refused it: the queue is full, or no queue is bound.
    #[error("the broker refused the message: {reason}")]
    Refused {
        /// The broker's words.
        reason: String,
    },
}

/// Publishes batches; shared by any number of tasks.
#[async_trait]
pub trait Publisher: Send + Sync + std::fmt::Debug {
    /// Publishes a message and waits until the broker has taken responsibility for it. A bounded window limits how
    /// many are in flight; a call beyond it waits for its turn.
    ///
    /// RabbitMQ: confirmed, and routed to at least one queue. In-process: settled by a consumer, because a queue in
    /// memory can take no responsibility; so whoever deletes his own copy after this returns loses nothing.
    async fn publish(&self, message: &OutgoingMessage) -> Result<(), PublishError>;

    /// How the link is.
    fn link(&self) -> LinkState;

    /// What the link has been through. Zeros where nothing can be lost or blocked.
    fn statistics(&self) -> LinkStatistics {
        LinkStatistics::default()
    }
}
