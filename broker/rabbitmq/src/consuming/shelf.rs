use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lapin::types::DeliveryTag;

use super::receipt::AmqpReceipt;

/// A delivery on its way to whoever consumes: a ticket for what is on the shelf of its generation.
#[derive(Debug)]
pub(super) struct Incoming {
    tag: DeliveryTag,
    shelf: Arc<Shelf>,
}

impl Incoming {
    /// `None` where the generation is over: the broker delivers it again.
    pub(super) fn take(self) -> Option<AmqpReceipt> {
        self.shelf.lock().remove(&self.tag)
    }
}

/// What one generation has delivered and nobody has taken. Emptied when the generation ends, so that the bodies do not
/// pile up from one generation to the next while nobody takes any.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<BTreeMap<DeliveryTag, AmqpReceipt>>);

impl Shelf {
    pub(super) fn put(self: &Arc<Self>, receipt: AmqpReceipt) -> Incoming {
        let tag = receipt.tag();
        self.lock().insert(tag, receipt);
        Incoming {
            tag,
            shelf: Arc::clone(self),
        }
    }

    /// Gives back to the broker what is left.
    pub(super) fn clear(&self) {
        let left = std::mem::take(&mut *self.lock());
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DeliveryTag, AmqpReceipt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
