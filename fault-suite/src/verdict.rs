//! What comes of a fault. The invariants, by the numbers of the design:
//!
//! - I1 the ledger holds exactly the stored batches, and counts are equal per key
//! - I2 mean and variance are bit-equal to the oracle's
//! - I3 outbox and queue are empty, dead letters are exactly the expected
//! - I4 recovered within 30 s of the healing, without a restart by hand
//! - I5 resident memory stays under a cap
//! - I6 the API never shows more than is stored
//! - I7 the fault really happened

use std::time::Duration;

use anyhow::ensure;

/// How long the recovery may take (I4).
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
    /// Batches that are stored and were not counted.
    pub(crate) lost: u64,
    /// Values that were shown beyond those that are stored.
    pub(crate) doubled: u64,
    pub(crate) batches: u64,
    pub(crate) peak_memory: u64,
    /// What else proves that the fault happened, such as the redeliveries it caused.
    pub(crate) evidence: String,
}

/// The fault happened at least so often (I7).
pub(crate) fn ensure_happened(injected: u64, at_least: u64, what: &str) -> anyhow::Result<()> {
    ensure!(
        injected >= at_least,
        "I7: {what}: happened {injected} times, expected at least {at_least}"
    );
    Ok(())
}
