//! The outcome of a fault. The invariants have these numbers:
//!
//! - I1 the ledger holds exactly the stored batches, and counts are equal per key
//! - I2 mean and variance are bit-equal to the oracle's
//! - I3 outbox and queue are empty, dead letters are exactly the expected
//! - I4 recovered within 30 s of the healing, without a restart by hand
//! - I5 resident memory stays under a cap
//! - I6 the API never shows more than is stored
//! - I7 the fault really happened

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use anyhow::ensure;

use crate::{database::Key, monitor::RankingRow, oracle::ExactSums};

/// How long the recovery may take (I4). The product promises it, so it does not depend on `TEST_PATIENCE`.
pub(crate) const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

/// The result of one fault.
#[derive(Debug)]
pub(crate) enum FaultOutcome {
    /// Every invariant held.
    Held(FaultFigures),
    /// This machine cannot inject the fault, for this reason.
    NotRun(String),
}

/// The measurements of a fault during which every invariant held.
#[derive(Debug)]
pub(crate) struct FaultFigures {
    /// How often the fault happened.
    pub(crate) injected: u64,
    /// The time from the end of the fault until everything stored by then was counted and shown.
    pub(crate) recovered: Duration,
    /// See [`Miscounted`].
    pub(crate) lost: u64,
    /// See [`Miscounted`].
    pub(crate) doubled: u64,
    pub(crate) batches: u64,
    pub(crate) peak_memory: u64,
    /// Further evidence that the fault happened, such as the redeliveries that it caused.
    pub(crate) evidence: String,
}

/// A violation of I1: at the end the API shows other counts than were stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Miscounted {
    /// Values that are stored, or were stored before, and are not shown.
    pub(crate) lost: u64,
    /// Values that are shown and were never stored.
    pub(crate) doubled: u64,
}

impl Miscounted {
    pub(crate) fn of(
        shown: &BTreeMap<Key, RankingRow>,
        stored: &BTreeMap<Key, ExactSums>,
        once_stored: &BTreeMap<Key, u64>,
    ) -> Self {
        let keys: BTreeSet<&Key> = shown
            .keys()
            .chain(stored.keys())
            .chain(once_stored.keys())
            .collect();
        keys.into_iter().fold(Self::default(), |sum, key| {
            let shown = shown.get(key).map_or(0, |row| row.n);
            let now = stored.get(key).map_or(0, |sums| sums.n);
            let all = now.max(once_stored.get(key).copied().unwrap_or(0));
            Self {
                lost: sum.lost + all.saturating_sub(shown),
                doubled: sum.doubled + shown.saturating_sub(all),
            }
        })
    }
}

impl fmt::Display for Miscounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I1: lost {} values, doubled {}", self.lost, self.doubled)
    }
}

impl std::error::Error for Miscounted {}

/// Checks that the fault happened at least `at_least` times (I7).
pub(crate) fn ensure_happened(injected: u64, at_least: u64, what: &str) -> anyhow::Result<()> {
    ensure!(
        injected >= at_least,
        "I7: {what}: happened {injected} times, expected at least {at_least}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_are_lost_and_excess_values_are_doubled() {
        let key = |llm: &str| Key {
            metric: "ttft".to_owned(),
            llm: llm.to_owned(),
            source: "simulated".to_owned(),
        };
        let exact = |n| {
            let mut exact = ExactSums::default();
            (0..n).for_each(|_| exact.add(0.5));
            exact
        };
        let row = |n| RankingRow {
            n,
            mean: 0.0,
            stddev: None,
        };
        let shown = BTreeMap::from([(key("a"), row(5)), (key("b"), row(7)), (key("c"), row(2))]);
        let stored = BTreeMap::from([(key("a"), exact(5)), (key("b"), exact(6)), (key("c"), exact(2))]);
        let once = BTreeMap::from([(key("c"), 4), (key("d"), 3)]);
        let miscounted = Miscounted::of(&shown, &stored, &once);
        assert_eq!(miscounted, Miscounted { lost: 5, doubled: 1 });
    }
}
