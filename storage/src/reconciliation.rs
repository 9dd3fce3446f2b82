use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::{Hour, Period, Result, StatisticsKey};

/// The longest that a transaction that stores batches can last: more than the time limits of a backend's operations.
pub const SLOWEST_RECORD: Duration = Duration::from_secs(120);

/// The longest wait before a batch that stays uncounted is requeued again.
pub const LONGEST_REQUEUE_DELAY: Duration = Duration::from_secs(24 * 3600);

/// What [`Reconciliation::requeue_uncounted`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requeued {
    /// Batches that are stored, overdue and not counted, requeued now or earlier.
    pub uncounted: u64,
    /// Those of them that got an outbox row now.
    pub requeued: u64,
}

/// A statistics row that is not what the stored batches say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mismatch {
    /// The row's key.
    pub key: StatisticsKey,
    /// The row's period.
    pub period: Period,
}

/// What one call of [`Reconciliation::audit`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The batches that were folded again.
    pub batches: u64,
    /// The statistics rows that were compared.
    pub rows: u64,
    /// The rows that differ, are missing, or should not be there.
    pub mismatches: Vec<Mismatch>,
    /// The hour to go on from; `None` where this call reached the end, the all-time rows included.
    pub next: Option<Hour>,
}

/// What [`Reconciliation::prune`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// The first hour whose batches are kept; it never goes back.
    pub retained_from: Hour,
    /// The batches that were deleted by this call.
    pub batches: u64,
    /// Whether the limit left some for another call.
    pub more: bool,
    /// How many hours of batches that should go are kept, because of a stored batch that is not counted.
    pub held_back_hours: u64,
}

/// Batches that the broker lost are published again, statistics are compared with the stored batches, and batches
/// that are older than the retention are deleted. Any number of processes may call any of this at once.
#[async_trait]
pub trait Reconciliation: Send + Sync {
    /// Queues batches again (gives them an outbox row) that were stored at least `grace` ago, are not in the ledger and
    /// have no outbox row: oldest first, at most `limit` of them. A batch that stays uncounted is requeued again only after
    /// `grace`, then twice as long, and so on, up to a day: it may be a dead letter.
    ///
    /// The cost depends on what was stored since the last call, on what waits in the outbox, and on the number of
    /// uncounted batches, not on the history. For that a call remembers how far it has looked. A batch is dated from
    /// the start of the transaction that stores it and seen from its end on, so no call claims to have seen the last
    /// [`SLOWEST_RECORD`], however short `grace` is, nor anything later than that before the newest batch: a clock that
    /// ran ahead would hide what is stored once it is right again. What is remembered from the future is forgotten.
    ///
    /// What is left of batches that were deleted by hand is removed.
    ///
    /// Of callers at the same time one does it; the others do not wait and only count. Batches of hours that are no longer
    /// kept are left alone: they would be refused.
    async fn requeue_uncounted(&self, grace: Duration, limit: u32) -> Result<Requeued>;

    /// Recomputes hourly rows from the stored batches in the ledger, oldest hour first beginning with `from` (the first
    /// retained hour for `None`), until at least `batches` were folded and the hour is complete; compares them with
    /// the rows there are. Hours that are no longer kept are final and not recomputed. At the end of the history the
    /// all-time rows are compared with the merge of all hourly ones.
    /// All of one call is read from one snapshot, so consumers that go on counting cause no mismatch.
    async fn audit(&self, from: Option<Hour>, batches: u64) -> Result<Audit>;

    /// Deletes the counted batches of hours before the one `keep` ago, together with their ledger rows, at most `limit`
    /// of them. Their hourly statistics stay and are final. `now` is the caller's clock, which
    /// only counts where the database's clock and the newest stored batch are as late.
    ///
    /// From then on a batch of such an hour that is not in the ledger is refused
    /// ([`Refusal::TooOld`](crate::Refusal::TooOld)): nobody can know any more whether it was counted. So that no
    /// stored batch is refused, an hour that holds an uncounted one is kept, and all hours after it. One gap is left:
    /// a batch of such an hour that a producer records in the very moment is stored, and refused when it is to be
    /// counted.
    ///
    /// While a rebuild or another pruning goes on, nothing is deleted, and there is `more`.
    async fn prune(&self, keep: Duration, now: DateTime<Utc>, limit: u32) -> Result<Pruned>;
}
