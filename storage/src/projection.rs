use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use shared_types::{BatchId, LlmId, MetricBatch, MetricId, MetricTitle, Source, Unit};

use crate::Result;

/// Why a batch can never be stored or counted as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The metric is not in the registry, so its direction cannot be known. (An archived metric is known.)
    #[error("metric: found {found}, expected one of {}", known.iter().map(MetricTitle::as_str).collect::<Vec<_>>().join(", "))]
    UnknownMetric {
        /// The title in the batch.
        found: MetricTitle,
        /// The titles in the registry.
        known: Vec<MetricTitle>,
    },
    /// The batch states another unit than the registry.
    #[error("unit: found {found}, expected {expected}, the unit of {metric}")]
    OtherUnit {
        /// The metric.
        metric: MetricTitle,
        /// The unit in the batch.
        found: Unit,
        /// The unit in the registry.
        expected: Unit,
    },
    /// The batch's hour is older than what is kept, and the batch is not among what is kept: it may have been counted
    /// and forgotten since.
    #[error(
        "timestamp: found {found}, expected {retained_from} or later: older batches are not kept, so whether it was counted is unknown"
    )]
    TooOld {
        /// The batch's timestamp.
        found: DateTime<Utc>,
        /// The start of the first hour that is kept.
        retained_from: DateTime<Utc>,
    },
    /// Another batch is stored under the same id: one of the two producers is wrong, and counting either again
    /// would corrupt the statistics.
    #[error("id: found {id} with other content, expected the content that was stored under this id before")]
    OtherContent {
        /// The id both carry.
        id: BatchId,
    },
}

/// What became of one batch given to [`Projection::apply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Entered into the ledger and folded into the statistics now.
    Counted,
    /// In the ledger already: a redelivery, not counted again.
    Duplicate,
    /// Not counted and never to be; goes to the dead letters with this reason.
    Refused(Refusal),
}

/// A full hour of UTC, counted from the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(pub i64);

impl Hour {
    /// The hour that holds `time`.
    #[must_use]
    pub fn of(time: DateTime<Utc>) -> Self {
        Self(time.timestamp().div_euclid(3600))
    }

    /// When the hour starts; of hours beyond the calendar, the first or last moment of it.
    #[must_use]
    pub fn start(self) -> DateTime<Utc> {
        TimeDelta::try_hours(self.0)
            .and_then(|since_epoch| DateTime::UNIX_EPOCH.checked_add_signed(since_epoch))
            .unwrap_or(if self.0 < 0 {
                DateTime::<Utc>::MIN_UTC
            } else {
                DateTime::<Utc>::MAX_UTC
            })
    }
}

/// The span of time that a statistics row covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// All batches there are. Kept beside the hours, so that the ranking over all time needs one row per key
    /// however long the history is.
    AllTime,
    /// The batches whose timestamp lies in this hour.
    Hour(Hour),
}

/// Statistics are kept apart by LLM, metric and source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatisticsKey {
    /// The LLM.
    pub llm: LlmId,
    /// The metric.
    pub metric: MetricId,
    /// Where the values come from.
    pub source: Source,
}

/// The running statistics of one key and period, in `statistics::RunningStatistics`' serialised form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsRow {
    /// The key.
    pub key: StatisticsKey,
    /// The period.
    pub period: Period,
    /// `RunningStatistics::to_bytes`.
    pub state: Vec<u8>,
    /// When a batch was last folded in, by the database's clock.
    pub updated_at: DateTime<Utc>,
}

/// A point in the history of the statistics, opaque to callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Grows with each rebuild; rows that were read under another generation are to be discarded.
    pub generation: i64,
    /// The backend's own marker within the generation.
    pub position: i64,
}

impl Revision {
    /// Whether the changes that were read together with this revision add to what was read up to `since`. Where not,
    /// everything must be read again: there was a rebuild, or the database was replaced by an older one.
    #[must_use]
    pub fn follows(self, since: Self) -> bool {
        self.generation == since.generation && self.position >= since.position
    }
}

/// The rows that changed since a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsChange {
    /// Whether `rows` is everything there is, replacing what the caller holds.
    pub complete: bool,
    /// At least every row that changed since the given revision; a row may come again unchanged.
    pub rows: Vec<StatisticsRow>,
    /// Where to go on from.
    pub revision: Revision,
}

/// Which hours of history are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryFilter {
    /// The LLM.
    pub llm: LlmId,
    /// The metric.
    pub metric: MetricId,
    /// One source, or all of them.
    pub source: Option<Source>,
    /// The first hour.
    pub from: Hour,
    /// The first hour after the last.
    pub until: Hour,
}

/// What a rebuild did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildReport {
    /// The batches that were folded: those in the ledger whose hours are kept.
    pub batches: u64,
    /// The statistics rows that these batches and the hours of pruned ones account for.
    pub rows: u64,
    /// Rows that were written or deleted, because they were not what the batches say.
    pub changed: u64,
}

/// The consumer's side: the ledger of counted batches and the statistics, which are a pure function of the stored
/// batches in the ledger.
#[async_trait]
pub trait Projection: Send + Sync {
    /// Enters the batches into the ledger and folds those that are new to it into the statistics, all in one
    /// transaction; gives one outcome per batch, in the order given. A batch without a stored row (a foreign
    /// producer published it directly) is stored in the same transaction, its unknown LLM registered.
    /// One that is stored is counted whatever has become of its metric's unit since.
    ///
    /// Folding: per batch into the hour of its timestamp and into all time; rows are locked in key order, so that
    /// concurrent callers neither deadlock nor lose updates. A batch that is in `batches` twice counts once.
    ///
    /// # Errors
    /// `Rebuilding`: nothing is counted before the rebuild is over.
    async fn apply(&self, batches: &[MetricBatch]) -> Result<Vec<Applied>>;

    /// The statistics that changed since `since` (everything for `None`): the all-time rows, and the hours from
    /// `horizon` on. No committed change is ever missed, however late its transaction committed.
    async fn statistics_since(&self, since: Option<Revision>, horizon: Hour) -> Result<StatisticsChange>;

    /// The hourly rows asked for, ordered by hour, then source.
    async fn history(&self, filter: &HistoryFilter) -> Result<Vec<StatisticsRow>>;

    /// Recomputes every statistics row from the stored batches in the ledger, in one transaction: readers see all of the
    /// old rows or all of the new, and a rebuild that dies leaves everything as it was. `progress` is told how many
    /// batches have been folded and how many there are. The hours of pruned batches are final: their rows stay, and count
    /// for all time.
    ///
    /// Nothing is counted and nothing is pruned meanwhile. A backend that keeps others from writing as long as that takes
    /// (SQLite) answers `Unavailable`, others answer [`StorageError::Rebuilding`](crate::StorageError::Rebuilding).
    /// Rebuilds and prunings exclude one another; a rebuild waits for its turn.
    async fn rebuild(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<RebuildReport>;

    /// Whether [`apply`](Self::apply) would be answered with `Rebuilding` now. Never, where a backend does not answer so.
    async fn is_rebuilding(&self) -> Result<bool> {
        Ok(false)
    }

    /// How many batches the ledger holds.
    async fn counted_batches(&self) -> Result<u64>;
}
