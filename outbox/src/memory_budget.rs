use std::sync::Arc;

use shared_types::{MAX_VALUES, Metadata, MetricBatch};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A double in JSON: 17 significant digits with sign, point, exponent and comma; 19 bytes are usual.
const MESSAGE_BYTES_PER_VALUE: usize = 25;
/// Everything else of a batch or its message: ids, names, timestamps, provenance, and what allocations waste.
const OVERHEAD_BYTES: usize = 1024;
/// Metadata, where there is any: as a tree of maps it takes more than its text.
const METADATA_BYTES: usize = 2 * Metadata::MAX_BYTES;
/// A permit stands for so many bytes, because a semaphore gives out at most 2^32 at once.
const BYTES_PER_PERMIT: usize = 1024;

/// What a batch takes in memory, estimated from above.
pub(crate) fn batch_bytes(batch: &MetricBatch) -> usize {
    OVERHEAD_BYTES + metadata_bytes(batch) + size_of_val(batch.values())
}

/// What its message takes, estimated from above.
pub(crate) fn message_bytes(batch: &MetricBatch) -> usize {
    OVERHEAD_BYTES + metadata_bytes(batch) + batch.values().len() * MESSAGE_BYTES_PER_VALUE
}

/// What the largest batch that can exist takes.
pub(crate) const LARGEST_BATCH: usize = OVERHEAD_BYTES + METADATA_BYTES + MAX_VALUES * size_of::<f64>();
/// What its message takes.
pub(crate) const LARGEST_MESSAGE: usize =
    OVERHEAD_BYTES + METADATA_BYTES + MAX_VALUES * MESSAGE_BYTES_PER_VALUE;

fn metadata_bytes(batch: &MetricBatch) -> usize {
    if batch.provenance().metadata.is_empty() {
        0
    } else {
        METADATA_BYTES
    }
}

/// Memory that is given out up to a limit.
#[derive(Debug, Clone)]
pub(crate) struct MemoryBudget {
    permits: Arc<Semaphore>,
    total: u32,
}

/// A part of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation(OwnedSemaphorePermit);

impl MemoryBudget {
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        let total = in_permits(bytes).max(1);
        Self {
            permits: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits for its turn; what needs more than there is takes all of it. Cancel-safe, but loses its turn.
    pub(crate) async fn take(&self, bytes: usize) -> Reservation {
        let permits = in_permits(bytes).min(self.total);
        let taken = Arc::clone(&self.permits).acquire_many_owned(permits).await;
        // Unwrap safety: nothing closes this semaphore.
        Reservation(taken.expect("the budget is never closed"))
    }

    /// The same without waiting; `None` where not enough is left now.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Reservation> {
        let permits = in_permits(bytes).min(self.total);
        let taken = Arc::clone(&self.permits).try_acquire_many_owned(permits);
        taken.ok().map(Reservation)
    }

    /// In bytes.
    pub(crate) fn taken(&self) -> usize {
        (self.total as usize).saturating_sub(self.permits.available_permits()) * BYTES_PER_PERMIT
    }
}

impl Reservation {
    pub(crate) fn add(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    /// Splits off what is meant for something of this size; all that is left where that is less.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let wanted = (in_permits(bytes) as usize).min(self.0.num_permits());
        // Unwrap safety: no more is split off than there is.
        Self(self.0.split(wanted).expect("no more than there is"))
    }
}

fn in_permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BYTES_PER_PERMIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use futures::FutureExt;
    use shared_types::{BatchContent, LlmName, MetricTitle, Provenance, Values};

    #[tokio::test]
    async fn what_is_larger_than_the_budget_takes_all_of_it() {
        let budget = MemoryBudget::of_bytes(4096);
        let all = budget.take(usize::MAX).await;
        assert_eq!(budget.taken(), 4096);
        assert!(budget.take(1).now_or_never().is_none());
        drop(all);
        let small = budget.take(1).await;
        assert_eq!(budget.taken(), 1024);
        assert!(budget.take(4096).now_or_never().is_none());
        drop(small);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn a_reservation_grows_by_another() {
        let budget = MemoryBudget::of_bytes(4096);
        let mut reservation = budget.take(1024).await;
        reservation.add(budget.take(2048).await);
        assert_eq!(budget.taken(), 3072);
        drop(reservation);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn a_reservation_is_split_without_growing() {
        let budget = MemoryBudget::of_bytes(4096);
        let mut rest = budget.take(3000).await;
        let first = rest.split(2048);
        let second = rest.split(2048);
        assert_eq!(budget.taken(), 3072);
        drop((first, rest));
        assert_eq!(budget.taken(), 1024);
        drop(second);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn the_estimate_is_never_too_small() {
        let longest = -1.234_567_890_123_456_7e-300;
        let longest_text = serde_json::Map::from_iter([("a".to_owned(), "x".repeat(4000).into())]);
        for (n, metadata) in [1, 1000, MAX_VALUES].into_iter().flat_map(|n| {
            [
                (n, Metadata::default()),
                (n, Metadata::new(longest_text.clone()).unwrap()),
            ]
        }) {
            let batch = MetricBatch::with_derived_id(BatchContent {
                llm: LlmName::new("a name of some length").unwrap(),
                metric: MetricTitle::new("ttft").unwrap(),
                unit: None,
                values: Values::new(vec![longest; n]).unwrap(),
                timestamp: DateTime::<Utc>::UNIX_EPOCH,
                provenance: Provenance {
                    metadata,
                    ..Provenance::imported()
                },
            });
            let message = crate::outgoing_message(&batch).body.len();
            assert!(LARGEST_MESSAGE >= message_bytes(&batch) && LARGEST_BATCH >= batch_bytes(&batch));
            assert!(message_bytes(&batch) >= message, "{n} values: {message} bytes");
            assert!(batch_bytes(&batch) >= size_of_val(batch.values()) + size_of::<MetricBatch>());
        }
    }
}
