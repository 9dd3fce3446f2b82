use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shared_types::BatchId;
use tokio::time::Instant;

/// The batches that this process is about to publish, or publishes: from their submission or the sweeper's claim until
/// they are marked as published or left to a sweeper. The process's own sweeper leaves them alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<Mutex<HashMap<BatchId, Instant>>>);

/// Notes that a batch is in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    all: InFlight,
    id: BatchId,
}

impl InFlight {
    pub(crate) fn enter(&self, id: BatchId) -> InFlightGuard {
        self.lock().insert(id, Instant::now());
        InFlightGuard {
            all: self.clone(),
            id,
        }
    }

    pub(crate) fn contains(&self, id: BatchId) -> bool {
        self.lock().contains_key(&id)
    }

    /// For how long the first of them has been in flight.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.lock().values().min().map(Instant::elapsed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BatchId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlightGuard {
    pub(crate) fn id(&self) -> BatchId {
        self.id
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}
