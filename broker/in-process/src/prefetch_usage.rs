use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::{Prefetch, PrefetchUsage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The unsettled deliveries of all subscriptions.
#[derive(Debug, Clone, Default)]
pub(crate) struct PrefetchUsageCounters(Arc<Mutex<PrefetchUsage>>);

impl PrefetchUsageCounters {
    pub(crate) fn read(&self) -> PrefetchUsage {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, PrefetchUsage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Limits how many unsettled deliveries, and bytes of bodies, one subscription holds.
#[derive(Debug)]
pub(crate) struct PrefetchLimiter {
    limit: Prefetch,
    permits: Arc<Semaphore>,
    /// Bytes of the bodies of unsettled deliveries.
    held_bytes: Arc<watch::Sender<usize>>,
    usage: PrefetchUsageCounters,
}

impl PrefetchLimiter {
    pub(crate) fn new(limit: Prefetch, usage: PrefetchUsageCounters) -> Self {
        usage.lock().prefetch += u64::from(limit.messages.get());
        Self {
            limit,
            permits: Arc::new(Semaphore::new(limit.messages.get().into())),
            held_bytes: Arc::default(),
            usage,
        }
    }

    /// Waits until the subscription may hold one more delivery. Cancel-safe.
    pub(crate) async fn acquire(&self) -> OwnedSemaphorePermit {
        let limit = self.limit.bytes.get();
        // Never fails: `self` owns the sender.
        let _ = self.held_bytes.subscribe().wait_for(|held| *held < limit).await;
        match Arc::clone(&self.permits).acquire_owned().await {
            Ok(permit) => permit,
            // Nobody closes this semaphore.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Counts a delivery until the guard is dropped.
    pub(crate) fn hold(&self, permit: OwnedSemaphorePermit, bytes: usize) -> UsageGuard {
        self.held_bytes.send_modify(|held| *held += bytes);
        let mut usage = self.usage.lock();
        usage.deliveries += 1;
        usage.bytes += bytes as u64;
        drop(usage);
        UsageGuard {
            bytes,
            held_bytes: Arc::clone(&self.held_bytes),
            usage: self.usage.clone(),
            _permit: permit,
        }
    }
}

impl Drop for PrefetchLimiter {
    fn drop(&mut self) {
        self.usage.lock().prefetch -= u64::from(self.limit.messages.get());
    }
}

/// Counts one unsettled delivery until it is dropped.
#[derive(Debug)]
pub(crate) struct UsageGuard {
    bytes: usize,
    held_bytes: Arc<watch::Sender<usize>>,
    usage: PrefetchUsageCounters,
    _permit: OwnedSemaphorePermit,
}

impl Drop for UsageGuard {
    fn drop(&mut self) {
        self.held_bytes.send_modify(|held| *held -= self.bytes);
        let mut usage = self.usage.lock();
        usage.deliveries -= 1;
        usage.bytes -= self.bytes as u64;
    }
}
