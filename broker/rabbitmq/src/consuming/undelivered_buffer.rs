use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lapin::types::DeliveryTag;

use super::acknowledger::DeliveryAcknowledger;

/// Refers to a delivery in the [`UndeliveredBuffer`] of its session.
#[derive(Debug)]
pub(super) struct BufferedDelivery {
    tag: DeliveryTag,
    buffer: Arc<UndeliveredBuffer>,
}

impl BufferedDelivery {
    /// Takes the delivery out of the buffer. `None` where the session has ended: the broker delivers the message again.
    pub(super) fn take(self) -> Option<DeliveryAcknowledger> {
        self.buffer.lock().remove(&self.tag)
    }
}

/// The deliveries that one session has received and the subscription has not returned. Cleared when the session ends:
/// otherwise the bodies of several sessions would be in memory while nobody calls `next`.
#[derive(Debug, Default)]
pub(super) struct UndeliveredBuffer(Mutex<BTreeMap<DeliveryTag, DeliveryAcknowledger>>);

impl UndeliveredBuffer {
    pub(super) fn insert(self: &Arc<Self>, acknowledger: DeliveryAcknowledger) -> BufferedDelivery {
        let tag = acknowledger.tag();
        self.lock().insert(tag, acknowledger);
        BufferedDelivery {
            tag,
            buffer: Arc::clone(self),
        }
    }

    /// Drops the deliveries. Where the link works, that requeues them.
    pub(super) fn clear(&self) {
        // Dropped after the lock is released.
        let undelivered = std::mem::take(&mut *self.lock());
        drop(undelivered);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeliveryTag, DeliveryAcknowledger>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
