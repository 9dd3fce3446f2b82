use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use broker::Holdings;
use lapin::types::DeliveryTag;

use super::consumers::ConsumerId;

/// What all subscriptions of a broker hold. Only for whoever looks.
#[derive(Debug, Default)]
pub(crate) struct HoldingsRecord {
    deliveries: AtomicU64,
    bytes: AtomicU64,
    prefetch: AtomicU64,
}

impl HoldingsRecord {
    pub(crate) fn read(&self) -> Holdings {
        Holdings {
            deliveries: self.deliveries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            prefetch: self.prefetch.load(Ordering::Relaxed),
        }
    }
}

/// The unsettled deliveries of one channel: whose they are, and how large.
#[derive(Debug)]
pub(super) struct Held {
    deliveries: HashMap<DeliveryTag, (ConsumerId, u64)>,
    /// As it is in the record.
    prefetch: u64,
    record: Arc<HoldingsRecord>,
}

impl Held {
    pub(super) fn new(record: Arc<HoldingsRecord>) -> Self {
        Self {
            deliveries: HashMap::new(),
            prefetch: 0,
            record,
        }
    }

    pub(super) fn add(&mut self, tag: DeliveryTag, consumer: ConsumerId, bytes: usize) {
        let bytes = bytes as u64;
        self.deliveries.insert(tag, (consumer, bytes));
        self.record.deliveries.fetch_add(1, Ordering::Relaxed);
        self.record.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> usize {
        self.deliveries.len()
    }

    /// Whose it was.
    pub(super) fn remove(&mut self, tag: DeliveryTag) -> Option<ConsumerId> {
        let (consumer, bytes) = self.deliveries.remove(&tag)?;
        self.record.deliveries.fetch_sub(1, Ordering::Relaxed);
        self.record.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(consumer)
    }

    pub(super) fn set_prefetch(&mut self, prefetch: usize) {
        let before = std::mem::replace(&mut self.prefetch, prefetch as u64);
        self.record.prefetch.fetch_add(self.prefetch, Ordering::Relaxed);
        self.record.prefetch.fetch_sub(before, Ordering::Relaxed);
    }
}

impl Drop for Held {
    /// What is not settled over this channel is the broker's again.
    fn drop(&mut self) {
        self.set_prefetch(0);
        let tags: Vec<_> = self.deliveries.keys().copied().collect();
        for tag in tags {
            self.remove(tag);
        }
    }
}
