//! The recomputation of all statistics, written once for all backends.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::BatchId;
use statistics::RunningStatistics;

use crate::{
    Hour, Period, RebuildReport, StatisticsKey,
    fold::{RowKey, RowState},
    step::StepError,
};

/// How many batches are in memory at a time.
const PAGE: u32 = 64;

/// The place of a batch in the order "oldest first": by timestamp, then id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The batch's timestamp.
    pub timestamp: DateTime<Utc>,
    /// Its id.
    pub id: BatchId,
}

/// A stored batch that is in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct CountedBatch {
    /// Where it is in the order.
    pub place: Place,
    /// What it counts for.
    pub key: StatisticsKey,
    /// Its values.
    pub values: Vec<f64>,
}

/// What swapping in the new rows did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swapped {
    /// The rows there are now.
    pub rows: u64,
    /// How many of the rows before and now differ.
    pub changed: u64,
}

/// One open transaction of a backend, as a rebuild needs it.
#[async_trait]
pub trait RebuildTransaction: Send {
    /// The backend's error, before it is known to which operation it belongs.
    type Error: From<StepError>;

    /// Keeps consumers out and tells how many batches the ledger holds.
    async fn begin(&mut self) -> Result<u64, Self::Error>;

    /// The next batches of the ledger, oldest first; none after the last.
    async fn page(&mut self, after: Option<Place>, limit: u32) -> Result<Vec<CountedBatch>, Self::Error>;

    /// Puts rows aside until [`swap`](Self::swap).
    async fn keep(&mut self, rows: &[RowState]) -> Result<(), Self::Error>;

    /// Replaces the statistics by the rows that were kept, in a new generation.
    async fn swap(&mut self) -> Result<Swapped, Self::Error>;
}

/// [`Projection::rebuild`](crate::Projection::rebuild). Memory: a page of batches and two states per key, however long
/// the history.
///
/// # Errors
/// The transaction's.
pub async fn run<T: RebuildTransaction>(
    transaction: &mut T,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<RebuildReport, T::Error> {
    let total = transaction.begin().await?;
    let mut fold = ChronologicalFold::default();
    let mut batches = 0;
    let mut after = None;
    loop {
        progress(batches, total);
        let page = transaction.page(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.place);
        batches += page.len() as u64;
        for batch in &page {
            let finished = fold.add(batch)?;
            if !finished.is_empty() {
                transaction.keep(&finished).await?;
            }
        }
    }
    transaction.keep(&fold.finish()?).await?;
    let Swapped { rows, changed } = transaction.swap().await?;
    Ok(RebuildReport {
        batches,
        rows,
        changed,
    })
}

/// Folds batches that come oldest first, one hour at a time.
#[derive(Debug, Default)]
struct ChronologicalFold {
    hour: Option<Hour>,
    this_hour: BTreeMap<StatisticsKey, RunningStatistics>,
    all_time: BTreeMap<StatisticsKey, RunningStatistics>,
}

impl ChronologicalFold {
    /// Adds a batch; gives the rows of the hour before where it is the first one of another hour.
    fn add(&mut self, batch: &CountedBatch) -> Result<Vec<RowState>, StepError> {
        let hour = Hour::of(batch.place.timestamp);
        let finished = match self.hour.replace(hour) {
            Some(before) if before != hour => self.end_hour(before)?,
            _ => Vec::new(),
        };
        self.this_hour
            .entry(batch.key)
            .or_default()
            .try_extend(&batch.values)
            .map_err(StepError::fault)?;
        Ok(finished)
    }

    fn end_hour(&mut self, hour: Hour) -> Result<Vec<RowState>, StepError> {
        std::mem::take(&mut self.this_hour)
            .into_iter()
            .map(|(key, statistics)| {
                self.all_time
                    .entry(key)
                    .or_default()
                    .merge(&statistics)
                    .map_err(StepError::fault)?;
                Ok(RowState::new(
                    RowKey {
                        key,
                        period: Period::Hour(hour),
                    },
                    &statistics,
                ))
            })
            .collect()
    }

    /// The rows of the last hour and of all time.
    fn finish(mut self) -> Result<Vec<RowState>, StepError> {
        let mut rows = match self.hour {
            Some(hour) => self.end_hour(hour)?,
            None => Vec::new(),
        };
        rows.extend(self.all_time.iter().map(|(key, statistics)| {
            RowState::new(
                RowKey {
                    key: *key,
                    period: Period::AllTime,
                },
                statistics,
            )
        }));
        Ok(rows)
    }
}
