use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use broker::PrefetchUsage;

/// Counts what all subscriptions hold unsettled, for [`broker::Broker::prefetch_usage`]. Nothing is decided by it.
#[derive(Debug, Default)]
pub(crate) struct PrefetchUsageCounters {
    deliveries: AtomicU64,
    bytes: AtomicU64,
    prefetch: AtomicU64,
}

impl PrefetchUsageCounters {
    pub(crate) fn read(&self) -> PrefetchUsage {
        PrefetchUsage {
            deliveries: self.deliveries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            prefetch: self.prefetch.load(Ordering::Relaxed),
        }
    }

    /// Counts a delivery until the guard is dropped.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> UsageGuard {
        let bytes = bytes as u64;
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        UsageGuard {
            bytes,
            usage: Arc::clone(self),
        }
    }
}

/// Counts one unsettled delivery until it is dropped.
#[derive(Debug)]
pub(super) struct UsageGuard {
    bytes: u64,
    usage: Arc<PrefetchUsageCounters>,
}

impl Drop for UsageGuard {
    fn drop(&mut self) {
        self.usage.deliveries.fetch_sub(1, Ordering::Relaxed);
        self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Counts the prefetch of one channel until it is dropped.
#[derive(Debug)]
pub(super) struct ChannelPrefetch {
    prefetch: u64,
    usage: Arc<PrefetchUsageCounters>,
}

impl ChannelPrefetch {
    pub(super) fn new(usage: Arc<PrefetchUsageCounters>) -> Self {
        Self { prefetch: 0, usage }
    }

    pub(super) fn set(&mut self, prefetch: usize) {
        let before = std::mem::replace(&mut self.prefetch, prefetch as u64);
        self.usage.prefetch.fetch_add(self.prefetch, Ordering::Relaxed);
        self.usage.prefetch.fetch_sub(before, Ordering::Relaxed);
    }
}

impl Drop for ChannelPrefetch {
    fn drop(&mut self) {
        self.set(0);
    }
}
