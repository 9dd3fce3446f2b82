use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::RabbitMqSettings;

/// A permit stands for so many bytes, because a semaphore gives out at most 2^32 at once.
const BYTES_PER_PERMIT: usize = 1024;

/// Limits how many messages, and how many bytes of bodies, are in flight. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// Permits of all bytes.
    total: u32,
}

/// A place in the window, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _message: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Window {
    pub(super) fn of(settings: &RabbitMqSettings) -> Self {
        let total = in_permits(settings.publish_window_bytes).max(1);
        Self {
            messages: Arc::new(Semaphore::new(places(settings))),
            bytes: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits for its turn, in the order of the calls: a large message is not passed by small ones for ever.
    pub(super) async fn enter(&self, bytes: usize) -> Place {
        let permits = in_permits(bytes).min(self.total);
        // Nobody closes these semaphores.
        Place {
            _message: Arc::clone(&self.messages).acquire_owned().await.ok(),
            _bytes: Arc::clone(&self.bytes).acquire_many_owned(permits).await.ok(),
        }
    }
}

/// How many messages may be in flight.
pub(super) fn places(settings: &RabbitMqSettings) -> usize {
    settings.publish_window.get().min(Semaphore::MAX_PERMITS)
}

fn in_permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BYTES_PER_PERMIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn messages_and_bytes_are_limited() {
        let mut settings = RabbitMqSettings::new("amqp://host", "q").unwrap();
        settings.publish_window = NonZeroUsize::new(3).unwrap();
        settings.publish_window_bytes = 4096;
        let window = Window::of(&settings);
        let enter = |bytes| window.enter(bytes).now_or_never();

        let half = enter(2048).unwrap();
        assert!(enter(2049).is_none(), "too many bytes");
        let other_half = enter(2048).unwrap();
        assert!(enter(1).is_none(), "no bytes left");
        let empty = enter(0).unwrap();
        assert!(enter(0).is_none(), "too many messages");
        drop((half, other_half, empty));
        let alone = enter(usize::MAX).expect("larger than the window, but alone");
        assert!(enter(1).is_none());
        drop(alone);
        enter(1).unwrap();
    }
}
