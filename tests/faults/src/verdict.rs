//! What comes of a fault. The invariants, by the numbers of the design:
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

use crate::{database::Key, oracle::Exact, watch::Row};

/// How long the recovery may take (I4). It is what the product promises, so it does not grow with `TEST_PATIENCE`.
pub(crate) const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

/// What became of one fault.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Every invariant held.
    Held(Outcome),
    /// This machine cannot do it, for this reason.
    NotRun(String),
}

/// The figures of a fault that was survived.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// How often the fault happened.
    pub(crate) injected: u64,
    /// From the healing until everything stored by then was counted and shown.
    pub(crate) recovered: Duration,
    /// See [`Miscounted`].
    pub(crate) lost: u64,
    /// See [`Miscounted`].
    pub(crate) doubled: u64,
    pub(crate) batches: u64,
    pub(crate) peak_memory: u64,
    /// What else proves that the fault happened, such as the redeliveries it caused.
    pub(crate) evidence: String,
}

/// I1: what the API shows in the end differs from what was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Miscounted {
    /// Values that are or once were stored, and are not shown.
    pub(crate) lost: u64,
    /// Values that are shown beyond those.
    pub(crate) doubled: u64,
}

impl Miscounted {
    pub(crate) fn of(
        shown: &BTreeMap<Key, Row>,
        stored: &BTreeMap<Key, Exact>,
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

/// The fault happened at least so often (I7).
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
    fn what_was_once_stored_and_is_gone_is_lost_and_what_is_shown_beyond_it_doubled() {
        let key = |llm: &str| Key {
            metric: "ttft".to_owned(),
            llm: llm.to_owned(),
            source: "simulated".to_owned(),
        };
        let exact = |n| {
            let mut exact = Exact::default();
            (0..n).for_each(|_| exact.add(0.5));
            exact
        };
        let row = |n| Row {
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
