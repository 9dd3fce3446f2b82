use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use broker::Holdings;

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

    /// Counts a delivery for as long as what is returned lives.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        let bytes = bytes as u64;
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Held {
            bytes,
            record: Arc::clone(self),
        }
    }
}

/// One delivery in memory.
#[derive(Debug)]
pub(super) struct Held {
    bytes: u64,
    record: Arc<HoldingsRecord>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.record.deliveries.fetch_sub(1, Ordering::Relaxed);
        self.record.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The window of one channel.
#[derive(Debug)]
pub(super) struct Share {
    prefetch: u64,
    record: Arc<HoldingsRecord>,
}

impl Share {
    pub(super) fn new(record: Arc<HoldingsRecord>) -> Self {
        Self { prefetch: 0, record }
    }

    pub(super) fn set(&mut self, prefetch: usize) {
        let before = std::mem::replace(&mut self.prefetch, prefetch as u64);
        self.record.prefetch.fetch_add(self.prefetch, Ordering::Relaxed);
        self.record.prefetch.fetch_sub(before, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
