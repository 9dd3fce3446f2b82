//! The recomputation of all statistics, written once for all backends.
//!
//! Consumers go on meanwhile. First every batch that is counted when the rebuild begins is folded into rows that are put
//! aside; then what was counted in the meantime is merged into them, again and again until it is little; then consumers
//! are kept out, the rest is merged, and the rows are swapped in.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::BatchId;
use statistics::RunningStatistics;

use crate::{
    Hour, Period, RebuildReport, StatisticsKey,
    fold::{Partials, RowKey, RowState, merged},
    step::StepError,
};

/// How many batches are in memory at a time.
const PAGE: u32 = 64;
/// How many statistics rows are, beside those of an hour.
const ROWS: u32 = 256;
/// So few batches are folded while consumers wait.
const FEW: u64 = 500;
/// Consumers that are faster than a rebuild are made to wait in the end.
const CATCH_UPS: u32 = 10;

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

/// What there is when a rebuild begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The batches in the ledger.
    pub counted: u64,
    /// The first hour whose batches are kept.
    pub retained_from: Hour,
}

/// What swapping in the new rows did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swapped {
    /// The rows that were recomputed.
    pub rows: u64,
    /// How many of the rows before and now differ.
    pub changed: u64,
}

/// What a rebuild needs of a backend. One goes on at a time, and nothing is pruned meanwhile.
#[async_trait]
pub trait RebuildSession: Send {
    /// The backend's error, before it is known to which operation it belongs.
    type Error: From<StepError>;

    /// Tells what is counted now from what will be.
    async fn begin(&mut self) -> Result<Begun, Self::Error>;

    /// The next batches from this hour on that were counted when the rebuild began, oldest first; none after the last.
    async fn page(
        &mut self,
        from: Hour,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Vec<CountedBatch>, Self::Error>;

    /// The batches that were counted since the rebuild began or, from the second call on, since the last call.
    async fn counted_since(&mut self) -> Result<Vec<BatchId>, Self::Error>;

    /// These batches, in any order.
    async fn load(&mut self, ids: &[BatchId]) -> Result<Vec<CountedBatch>, Self::Error>;

    /// The next statistics rows of periods before `before`, in any order that lasts; none after the last.
    async fn rows(
        &mut self,
        before: Hour,
        after: Option<RowKey>,
        limit: u32,
    ) -> Result<Vec<RowState>, Self::Error>;

    /// Those of the rows that were put aside.
    async fn kept(&mut self, rows: &[RowKey]) -> Result<Vec<(RowKey, Vec<u8>)>, Self::Error>;

    /// Puts rows aside until [`swap`](Self::swap), in place of what was there under their keys.
    async fn keep(&mut self, rows: &[RowState]) -> Result<(), Self::Error>;

    /// Keeps consumers out until the swap; gives the first hour whose batches are kept now.
    async fn exclude_consumers(&mut self) -> Result<Hour, Self::Error>;

    /// While consumers are kept out: whether there are so many batches in the ledger of hours from `from` on.
    async fn are_all(&mut self, from: Hour, batches: u64) -> Result<bool, Self::Error>;

    /// Replaces the statistics of all time and of the hours from `from` on by the rows that were put aside, in a new
    /// generation, and lets consumers in again.
    async fn swap(&mut self, from: Hour) -> Result<Swapped, Self::Error>;
}

/// [`Projection::rebuild`](crate::Projection::rebuild). Memory: a page of batches, two states per key, and
/// the ids (16 bytes each) and one state per row of what was counted since the last look, however long the history.
///
/// # Errors
/// The session's; `Fault` where the batches that were folded are not those in the ledger.
pub async fn run<T: RebuildSession>(
    session: &mut T,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<RebuildReport, T::Error> {
    let begun = session.begin().await?;
    let mut batches = fold_history(session, begun, progress).await?;
    add_final_hours(session, begun.retained_from).await?;
    for _ in 0..CATCH_UPS {
        let caught_up = catch_up(session).await?;
        batches += caught_up;
        if caught_up <= FEW {
            break;
        }
        progress(batches, batches.max(begun.counted));
    }
    if session.exclude_consumers().await? != begun.retained_from {
        return Err(StepError::Unavailable("batches were pruned during the rebuild".into()).into());
    }
    batches += catch_up(session).await?;
    if !session.are_all(begun.retained_from, batches).await? {
        let found =
            format!("{batches} batches were folded, which are not all that are counted, or some twice");
        return Err(StepError::fault(found).into());
    }
    let Swapped { rows, changed } = session.swap(begun.retained_from).await?;
    Ok(RebuildReport {
        batches,
        rows,
        changed,
    })
}

async fn fold_history<T: RebuildSession>(
    session: &mut T,
    begun: Begun,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<u64, T::Error> {
    let mut fold = ChronologicalFold::default();
    let mut batches = 0;
    let mut after = None;
    loop {
        progress(batches, batches.max(begun.counted));
        let page = session.page(begun.retained_from, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.place);
        batches += page.len() as u64;
        for batch in &page {
            let finished = fold.add(batch)?;
            if !finished.is_empty() {
                session.keep(&finished).await?;
            }
        }
    }
    session.keep(&fold.finish()?).await?;
    Ok(batches)
}

/// The hours whose batches are gone count for all time as they are.
async fn add_final_hours<T: RebuildSession>(session: &mut T, before: Hour) -> Result<(), T::Error> {
    if before == Period::FIRST_HOUR {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = session.rows(before, after, ROWS).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.row);
        let mut totals: BTreeMap<RowKey, RunningStatistics> = BTreeMap::new();
        for row in page.iter().filter(|row| row.row.period != Period::AllTime) {
            let all_time = RowKey {
                key: row.row.key,
                period: Period::AllTime,
            };
            let hour = RunningStatistics::from_bytes(&row.state).map_err(StepError::fault)?;
            totals
                .entry(all_time)
                .or_default()
                .merge(&hour)
                .map_err(StepError::fault)?;
        }
        merge(session, totals).await?;
    }
}

/// Adds what was counted since the last time; gives how many batches.
async fn catch_up<T: RebuildSession>(session: &mut T) -> Result<u64, T::Error> {
    let ids = session.counted_since().await?;
    let mut partials = Partials::default();
    let mut batches = 0;
    for ids in ids.chunks(PAGE as usize) {
        for batch in session.load(ids).await? {
            partials.add(batch.key, batch.place.timestamp, &batch.values)?;
            batches += 1;
        }
        if partials.len() >= ROWS as usize {
            merge(session, std::mem::take(&mut partials).into_rows()?).await?;
        }
    }
    merge(session, partials.into_rows()?).await?;
    Ok(batches)
}

async fn merge<T: RebuildSession>(
    session: &mut T,
    rows: BTreeMap<RowKey, RunningStatistics>,
) -> Result<(), T::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let keys: Vec<RowKey> = rows.keys().copied().collect();
    let kept = session.kept(&keys).await?;
    session.keep(&merged(rows, &kept)?).await
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
