use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker::{Holdings, Prefetch};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// What all subscriptions hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct HoldingsRecord(Arc<Mutex<Holdings>>);

impl HoldingsRecord {
    pub(crate) fn read(&self) -> Holdings {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Holdings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one subscription may hold, and holds.
#[derive(Debug)]
pub(crate) struct Holder {
    limit: Prefetch,
    turns: Arc<Semaphore>,
    bytes: Arc<watch::Sender<usize>>,
    record: HoldingsRecord,
}

impl Holder {
    pub(crate) fn new(limit: Prefetch, record: HoldingsRecord) -> Self {
        record.lock().prefetch += u64::from(limit.messages.get());
        Self {
            limit,
            turns: Arc::new(Semaphore::new(limit.messages.get().into())),
            bytes: Arc::default(),
            record,
        }
    }

    /// Waits until one more delivery may be held. Cancel-safe.
    pub(crate) async fn turn(&self) -> OwnedSemaphorePermit {
        let most = self.limit.bytes.get();
        // The sender is in `self`.
        let _ = self.bytes.subscribe().wait_for(|bytes| *bytes < most).await;
        match Arc::clone(&self.turns).acquire_owned().await {
            Ok(turn) => turn,
            // Nobody closes this semaphore.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Notes a delivery until what is returned is dropped.
    pub(crate) fn hold(&self, turn: OwnedSemaphorePermit, bytes: usize) -> Held {
        self.bytes.send_modify(|held| *held += bytes);
        let mut holdings = self.record.lock();
        holdings.deliveries += 1;
        holdings.bytes += bytes as u64;
        drop(holdings);
        Held {
            bytes,
            held: Arc::clone(&self.bytes),
            record: self.record.clone(),
            _turn: turn,
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.record.lock().prefetch -= u64::from(self.limit.messages.get());
    }
}

/// An unsettled delivery's share.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: usize,
    held: Arc<watch::Sender<usize>>,
    record: HoldingsRecord,
    _turn: OwnedSemaphorePermit,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.send_modify(|held| *held -= self.bytes);
        let mut holdings = self.record.lock();
        holdings.deliveries -= 1;
        holdings.bytes -= self.bytes as u64;
    }
}
