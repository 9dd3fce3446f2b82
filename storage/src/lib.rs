//! What llm-bench asks of a database, as ports named by intent.
//!
//! Each port is a trait; each method is one atomic operation. No caller ever holds a transaction, sees a
//! connection or writes SQL. The backends are `storage-postgres` and `storage-sqlite`; what they have in common is
//! `storage-sql`, and both pass the suite `storage-conformance`.
//!
//! To add a method: add it to its port here, say what is atomic and what a retry does, add its cases to the
//! conformance suite, then implement it in both backends.
//!
//! Every method may be called again after [`StorageError::Unavailable`], also when the first attempt was in fact
//! committed: a lost reply to a commit cannot be told from a lost commit, so every operation is idempotent or says how a
//! repetition shows.

mod api_keys;
mod archive;
mod dead_letter_log;
mod error;
mod maintenance;
mod outbox;
mod projection;
mod reconciliation;
mod registry;
mod service_role;
mod simulation_progress;

pub use api_keys::{ApiKeyId, ApiKeyRecord, ApiKeys, Scope};
pub use archive::{BatchArchive, BatchCursor, BatchFilter, BatchPage, StoredBatch};
pub use dead_letter_log::{DeadLetterAction, DeadLetterEntry, DeadLetterLog, DeadLetterNote};
pub use error::{BoxError, Result, StorageError};
pub use maintenance::{DatabaseInfo, Maintenance};
pub use outbox::{Outbox, OutboxDepth, Recorded};
pub use projection::{
    Applied, HistoryFilter, Hour, Period, Projection, RebuildReport, Refusal, Revision, StatisticsChange,
    StatisticsKey, StatisticsRow,
};
pub use reconciliation::{
    Audit, LONGEST_REQUEUE_DELAY, Mismatch, Pruned, Reconciliation, Requeued, SLOWEST_RECORD,
};
pub use registry::{LlmChange, MetricChange, Registry};
pub use service_role::ServiceRole;
pub use simulation_progress::SimulationProgress;

/// Everything a service needs of its database. Implemented by whatever implements every port.
pub trait Storage:
    Registry
    + Outbox
    + Projection
    + Reconciliation
    + BatchArchive
    + DeadLetterLog
    + ApiKeys
    + SimulationProgress
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
        + SimulationProgress
        + Maintenance
        + std::fmt::Debug
{
}
