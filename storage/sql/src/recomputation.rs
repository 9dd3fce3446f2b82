//! Statistics rows computed once more from the counted batches, and held against the stored ones: what an audit reports
//! and a rebuild puts right.

use std::collections::BTreeMap;

use async_trait::async_trait;
use statistics::RunningStatistics;
use storage::{Hour, Period, StatisticsKey};

use crate::{
    SqlError,
    counted_batches::{BatchPosition, CountedBatch},
    statistics_rows::{PartialStatistics, RowKey, RowState},
};

/// How many batches are in memory at a time.
const BATCHES: u32 = 64;
/// How many statistics rows are in memory at a time while the rows of all time are compared.
const ROWS: u32 = 256;

/// An open transaction of a backend in which the counted batches do not change.
#[async_trait]
pub trait StatisticsReader: Send {
    /// The first hour whose batches are kept.
    async fn retained_from(&mut self) -> Result<Hour, SqlError>;

    /// The next batches of the ledger from this hour on, oldest first; none after the last.
    async fn page(
        &mut self,
        from: Hour,
        after: Option<BatchPosition>,
        limit: u32,
    ) -> Result<Vec<CountedBatch>, SqlError>;

    /// The statistics rows of the hours from the first to before the second.
    async fn hours(&mut self, from: Hour, until: Hour) -> Result<Vec<RowState>, SqlError>;

    /// The next statistics rows in an order that keeps those of a key together; none after the last.
    async fn rows(&mut self, after: Option<RowKey>, limit: u32) -> Result<Vec<RowState>, SqlError>;
}

/// Where the stored rows are not what the batches say.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// How many rows the batches account for.
    pub(crate) expected: u64,
    /// Rows that differ or are missing, as they should be.
    pub(crate) wrong: Vec<RowState>,
    /// Stored rows that no batch accounts for.
    pub(crate) unaccounted: Vec<RowState>,
    /// Stored rows of hours that do not decode and so are missing in the row of all time.
    pub(crate) undecodable: Vec<RowKey>,
}

impl Differences {
    fn check(&mut self, stored: Option<&RowState>, expected: RowState) {
        self.expected += 1;
        if stored != Some(&expected) {
            self.wrong.push(expected);
        }
    }
}

/// The batches of whole hours, folded.
pub(crate) struct FoldedHours {
    from: Hour,
    /// How many batches were folded.
    pub(crate) batches: u64,
    partials: PartialStatistics,
    /// The hour of the first batch that was left out; `None` where there is none.
    pub(crate) next: Option<Hour>,
}

/// Folds whole hours from this one on until there are `enough` batches; `progress` is told how many there are.
pub(crate) async fn fold_hours<T: StatisticsReader>(
    reader: &mut T,
    from: Hour,
    enough: u64,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<FoldedHours, SqlError> {
    let mut folded = FoldedHours {
        from,
        batches: 0,
        partials: PartialStatistics::default(),
        next: None,
    };
    let mut last: Option<BatchPosition> = None;
    loop {
        let page = reader.page(from, last, BATCHES).await?;
        if page.is_empty() {
            return Ok(folded);
        }
        for batch in page {
            let hour = Hour::of(batch.position.timestamp);
            let is_another_hour = last.is_some_and(|last| Hour::of(last.timestamp) != hour);
            if folded.batches >= enough && is_another_hour {
                folded.next = Some(hour);
                return Ok(folded);
            }
            folded
                .partials
                .add(batch.key, batch.position.timestamp, &batch.values)?;
            folded.batches += 1;
            last = Some(batch.position);
        }
        progress(folded.batches);
    }
}

/// Compares the rows of the hours that were folded.
pub(crate) async fn compare_hours<T: StatisticsReader>(
    reader: &mut T,
    folded: FoldedHours,
) -> Result<Differences, SqlError> {
    let until = folded.next.unwrap_or(Hour(i64::MAX));
    let stored = reader.hours(folded.from, until).await?;
    let mut stored: BTreeMap<RowKey, RowState> = stored.into_iter().map(|row| (row.row, row)).collect();
    let mut differences = Differences::default();
    for (key, statistics) in folded.partials.into_hours() {
        differences.check(stored.remove(&key).as_ref(), RowState::new(key, &statistics));
    }
    differences.unaccounted.extend(stored.into_values());
    Ok(differences)
}

/// Compares the all-time row of each key with the merge of its stored hours, those of pruned batches included.
pub(crate) async fn compare_all_time<T: StatisticsReader>(reader: &mut T) -> Result<Differences, SqlError> {
    let mut differences = Differences::default();
    let mut current: Option<KeyTotal> = None;
    let mut after = None;
    loop {
        let page = reader.rows(after, ROWS).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.row);
        for row in page {
            if current.as_ref().is_none_or(|total| total.key != row.row.key)
                && let Some(finished) = current.replace(KeyTotal::of(row.row.key))
            {
                finished.check(&mut differences);
            }
            if let Some(total) = &mut current {
                total.add(row, &mut differences)?;
            }
        }
    }
    if let Some(finished) = current {
        finished.check(&mut differences);
    }
    Ok(differences)
}

/// The rows of one key, as far as they were read.
struct KeyTotal {
    key: StatisticsKey,
    all_time: Option<RowState>,
    hours: RunningStatistics,
}

impl KeyTotal {
    fn of(key: StatisticsKey) -> Self {
        Self {
            key,
            all_time: None,
            hours: RunningStatistics::default(),
        }
    }

    fn add(&mut self, row: RowState, differences: &mut Differences) -> Result<(), SqlError> {
        if row.row.period == Period::AllTime {
            self.all_time = Some(row);
            return Ok(());
        }
        match RunningStatistics::from_bytes(&row.state) {
            Ok(statistics) => self.hours.merge(&statistics).map_err(SqlError::fault)?,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    llm.id = row.row.key.llm.0,
                    metric.id = row.row.key.metric.0,
                    source = row.row.key.source.as_str(),
                    period = ?row.row.period,
                    "a statistics row cannot be decoded"
                );
                differences.undecodable.push(row.row);
            }
        }
        Ok(())
    }

    fn check(self, differences: &mut Differences) {
        if self.hours.count() == 0 {
            differences.unaccounted.extend(self.all_time);
            return;
        }
        let row = RowKey {
            key: self.key,
            period: Period::AllTime,
        };
        differences.check(self.all_time.as_ref(), RowState::new(row, &self.hours));
    }
}
