use std::sync::Arc;

use broker::{MemoryBudget, Reservation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::RabbitMqSettings;

/// Limits how many publishes, and how many bytes of their bodies, are unconfirmed at once. Clones share the limit.
#[derive(Debug, Clone)]
pub(crate) struct UnconfirmedLimit {
    messages: Arc<Semaphore>,
    bytes: MemoryBudget,
}

/// Allows one unconfirmed publish, until it is dropped.
#[derive(Debug)]
pub(crate) struct UnconfirmedPermit {
    _message: Option<OwnedSemaphorePermit>,
    _bytes: Reservation,
}

impl UnconfirmedLimit {
    pub(super) fn new(settings: &RabbitMqSettings) -> Self {
        Self {
            messages: Arc::new(Semaphore::new(max_unconfirmed(settings))),
            bytes: MemoryBudget::of_bytes(settings.max_unconfirmed_bytes),
        }
    }

    /// Waits in the order of the calls: small messages do not overtake a large one.
    pub(super) async fn acquire(&self, bytes: usize) -> UnconfirmedPermit {
        UnconfirmedPermit {
            // Nobody closes this semaphore.
            _message: Arc::clone(&self.messages).acquire_owned().await.ok(),
            _bytes: self.bytes.take(bytes).await,
        }
    }
}

/// How many publishes may be unconfirmed at once.
pub(super) fn max_unconfirmed(settings: &RabbitMqSettings) -> usize {
    settings.max_unconfirmed.get().min(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn messages_and_bytes_are_limited() {
        let mut settings = RabbitMqSettings::new("amqp://host", "q").unwrap();
        settings.max_unconfirmed = NonZeroUsize::new(3).unwrap();
        settings.max_unconfirmed_bytes = 4096;
        let limit = UnconfirmedLimit::new(&settings);
        let acquire = |bytes| limit.acquire(bytes).now_or_never();

        let half = acquire(2048).unwrap();
        assert!(acquire(2049).is_none(), "too many bytes");
        let other_half = acquire(2048).unwrap();
        assert!(acquire(1).is_none(), "no bytes left");
        let empty = acquire(0).unwrap();
        assert!(acquire(0).is_none(), "too many messages");
        drop((half, other_half, empty));
        let alone = acquire(usize::MAX).expect("larger than the limit, but alone");
        assert!(acquire(1).is_none());
        drop(alone);
        acquire(1).unwrap();
    }
}
