use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A permit stands for so many bytes, because a semaphore gives out at most 2^32 permits at once.
const BYTES_PER_PERMIT: usize = 1024;

/// Limits how many bytes of messages a process holds at once. Counted in whole KiB. Clones share the limit.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    permits: Arc<Semaphore>,
    total: u32,
}

/// Bytes taken from a [`MemoryBudget`]. Dropping it gives them back.
#[derive(Debug)]
pub struct Reservation(OwnedSemaphorePermit);

impl MemoryBudget {
    /// A budget of `bytes`, at least 1 KiB.
    #[must_use]
    pub fn of_bytes(bytes: usize) -> Self {
        let total = in_permits(bytes).max(1);
        Self {
            permits: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits until `bytes` are free, in the order of the calls: small reservations do not overtake a large one. More bytes
    /// than the budget has reserve the whole budget. Cancel-safe; a cancelled call loses its place in the order.
    ///
    /// # Panics
    /// Never: nothing closes the budget.
    pub async fn take(&self, bytes: usize) -> Reservation {
        let permits = in_permits(bytes).min(self.total);
        let taken = Arc::clone(&self.permits).acquire_many_owned(permits).await;
        // Unwrap safety: nothing closes this semaphore.
        Reservation(taken.expect("the budget is never closed"))
    }

    /// [`Self::take`] without waiting; `None` where not enough is free now.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> Option<Reservation> {
        let permits = in_permits(bytes).min(self.total);
        let taken = Arc::clone(&self.permits).try_acquire_many_owned(permits);
        taken.ok().map(Reservation)
    }

    /// The bytes that are reserved now.
    #[must_use]
    pub fn taken(&self) -> usize {
        (self.total as usize).saturating_sub(self.permits.available_permits()) * BYTES_PER_PERMIT
    }
}

impl Reservation {
    /// Merges another reservation of the same budget into this one.
    ///
    /// # Panics
    /// The other reservation is of another budget.
    pub fn add(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    /// Splits off a reservation of `bytes`, or of all bytes where this one has fewer.
    ///
    /// # Panics
    /// Never: no more is split off than there is.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let permits = (in_permits(bytes) as usize).min(self.0.num_permits());
        // Unwrap safety: no more is split off than there is.
        Self(self.0.split(permits).expect("no more than there is"))
    }
}

fn in_permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BYTES_PER_PERMIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

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
}
