//! What llm-bench asks of a database, as ports named by intent.
//!
//! Each port is a trait; each method is one atomic business step. No caller ever holds a transaction, sees a
//! connection or writes SQL. The backends are `storage-postgres` and `storage-sqlite`; both pass the suite in
//! `conformance` (feature `conformance`).
//!
//! To add a method: add it to its port here, say what is atomic and what a retry does, add its cases to the
//! conformance suite, then implement it in both backends. What the backends have in common is here: [`step`] decides what
//! is stored and counted, [`rebuild`] recomputes, [`audit`] compares, [`fold`] makes statistics rows of batches, [`columns`] reads rows.
//!
//! Every method may be called again after [`StorageError::Unavailable`], also when the first attempt was in fact
//! committed: a lost reply to a commit cannot be told from a lost commit, so every step is idempotent or says how a
//! repetition shows.

mod api_keys;
mod archive;
pub mod audit;
pub mod columns;
mod dead_letter_log;
mod duty;
mod error;
pub mod fold;
mod maintenance;
mod outbox;
mod preparation;
mod projection;
pub mod rebuild;
mod reconciliation;
mod registry;
mod simulation_log;
pub mod step;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use api_keys::{ApiKeyId, ApiKeyRecord, ApiKeys, Scope};
pub use archive::{BatchArchive, BatchCursor, BatchFilter, BatchPage, StoredBatch};
pub use dead_letter_log::{DeadLetterAction, DeadLetterEntry, DeadLetterLog, DeadLetterNote};
pub use duty::Duty;
pub use error::{BoxError, Result, StorageError};
pub use maintenance::{DatabaseInfo, Maintenance};
pub use outbox::{Outbox, OutboxDepth, Recorded};
pub use preparation::prepared;
pub use projection::{
    Applied, HistoryFilter, Hour, Period, Projection, RebuildReport, Refusal, Revision, StatisticsChange,
    StatisticsKey, StatisticsRow,
};
pub use reconciliation::{
    Audit, LONGEST_REQUEUE_DELAY, Mismatch, Pruned, Reconciliation, Requeued, SLOWEST_RECORD,
    first_hour_kept, hours_held_back,
};
pub use registry::{LlmChange, MetricChange, Registry};
pub use simulation_log::SimulationLog;

/// Everything a service needs of its database. Implemented by whatever implements every port.
pub trait Storage:
    Registry
    + Outbox
    + Projection
    + Reconciliation
    + BatchArchive
    + DeadLetterLog
    + ApiKeys
    + SimulationLog
    + Maintenance
    + std::fmt::Debug
{
}

impl<T> Storage for T where
    T: Registry
        + Outbox
        + Projection
        + Reconciliation
        + BatchArchive
        + DeadLetterLog
        + ApiKeys
        + SimulationLog
        + Maintenance
        + std::fmt::Debug
{
}
