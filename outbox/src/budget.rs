use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A double in JSON: 17 significant digits with sign, point, exponent and comma; 19 bytes are usual.
const MESSAGE_BYTES_PER_VALUE: usize = 25;
/// Everything else of a batch or its message: ids, names, timestamps, provenance, and what allocations waste.
const OVERHEAD_BYTES: usize = 1024;
/// A permit stands for so many bytes, because a semaphore gives out at most 2^32 at once.
const BYTES_PER_PERMIT: usize = 1024;

/// What a batch of so many values takes in memory, estimated from above.
pub(crate) const fn batch_bytes(values: usize) -> usize {
    OVERHEAD_BYTES + values * size_of::<f64>()
}

/// What its message takes, estimated from above.
pub(crate) const fn message_bytes(values: usize) -> usize {
    OVERHEAD_BYTES + values * MESSAGE_BYTES_PER_VALUE
}

/// Memory that is given out up to a limit.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    permits: Arc<Semaphore>,
    total: u32,
}

/// A part of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share(OwnedSemaphorePermit);

impl Budget {
    pub(crate) fn of_bytes(bytes: usize) -> Self {
        let total = in_permits(bytes).max(1);
        Self {
            permits: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits for its turn; what needs more than there is takes all of it. Cancel-safe, but loses its turn.
    pub(crate) async fn take(&self, bytes: usize) -> Share {
        let permits = in_permits(bytes).min(self.total);
        let taken = Arc::clone(&self.permits).acquire_many_owned(permits).await;
        // Unwrap safety: nothing closes this semaphore.
        Share(taken.expect("the budget is never closed"))
    }

    /// The same without waiting; `None` where not enough is left now.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Share> {
        let permits = in_permits(bytes).min(self.total);
        let taken = Arc::clone(&self.permits).try_acquire_many_owned(permits);
        taken.ok().map(Share)
    }

    /// In bytes.
    pub(crate) fn taken(&self) -> usize {
        (self.total as usize).saturating_sub(self.permits.available_permits()) * BYTES_PER_PERMIT
    }
}

impl Share {
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
    use shared_types::{BatchContent, LlmName, MAX_VALUES, MetricBatch, MetricTitle, Provenance, Values};

    #[tokio::test]
    async fn what_is_larger_than_the_budget_takes_all_of_it() {
        let budget = Budget::of_bytes(4096);
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
    async fn a_share_grows_by_another() {
        let budget = Budget::of_bytes(4096);
        let mut share = budget.take(1024).await;
        share.add(budget.take(2048).await);
        assert_eq!(budget.taken(), 3072);
        drop(share);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn a_share_is_split_without_growing() {
        let budget = Budget::of_bytes(4096);
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
        for n in [1, 1000, MAX_VALUES] {
            let batch = MetricBatch::with_derived_id(BatchContent {
                llm: LlmName::new("a name of some length").unwrap(),
                metric: MetricTitle::new("ttft").unwrap(),
                unit: None,
                values: Values::new(vec![longest; n]).unwrap(),
                timestamp: DateTime::<Utc>::UNIX_EPOCH,
                provenance: Provenance::imported(),
            });
            let message = broker::OutgoingMessage::of(&batch).body.len();
            assert!(message_bytes(n) >= message, "{n} values: {message} bytes");
            assert!(batch_bytes(n) >= size_of_val(batch.values()) + size_of::<MetricBatch>());
        }
    }
}
