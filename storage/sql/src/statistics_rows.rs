//! From batches to statistics rows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use statistics::RunningStatistics;
use storage::{Hour, Period, StatisticsKey};

use crate::SqlError;

/// What a statistics row is found by. The order is the one in which everybody locks rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The key.
    pub key: StatisticsKey,
    /// The period.
    pub period: Period,
}

/// A statistics row to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowState {
    /// Where.
    pub row: RowKey,
    /// `RunningStatistics::to_bytes`.
    pub state: Vec<u8>,
    /// The number of values, for readers that cannot decode the state.
    pub n: i64,
}

impl RowState {
    /// The row of these statistics.
    #[must_use]
    pub fn new(row: RowKey, statistics: &RunningStatistics) -> Self {
        Self {
            row,
            state: statistics.to_bytes(),
            n: statistics.count().cast_signed(),
        }
    }
}

/// The statistics of some batches per key and hour.
#[derive(Debug, Default)]
pub struct PartialStatistics(BTreeMap<(StatisticsKey, Hour), RunningStatistics>);

impl PartialStatistics {
    /// Adds the values of one batch.
    ///
    /// # Errors
    /// A value is not finite (which a batch's never is), or there are too many.
    pub fn add(
        &mut self,
        key: StatisticsKey,
        timestamp: DateTime<Utc>,
        values: &[f64],
    ) -> Result<(), SqlError> {
        self.0
            .entry((key, Hour::of(timestamp)))
            .or_default()
            .try_extend(values)
            .map_err(SqlError::fault)
    }

    /// How many rows the hours have.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hours' rows.
    #[must_use]
    pub fn into_hours(self) -> BTreeMap<RowKey, RunningStatistics> {
        self.0
            .into_iter()
            .map(|((key, hour), statistics)| {
                let period = Period::Hour(hour);
                (RowKey { key, period }, statistics)
            })
            .collect()
    }

    /// The hours' rows and, merged from them, the all-time rows.
    ///
    /// # Errors
    /// There are too many values.
    pub fn into_rows(self) -> Result<BTreeMap<RowKey, RunningStatistics>, SqlError> {
        let mut rows: BTreeMap<RowKey, RunningStatistics> = BTreeMap::new();
        for ((key, hour), statistics) in self.0 {
            rows.entry(RowKey {
                key,
                period: Period::AllTime,
            })
            .or_default()
            .merge(&statistics)
            .map_err(SqlError::fault)?;
            rows.insert(
                RowKey {
                    key,
                    period: Period::Hour(hour),
                },
                statistics,
            );
        }
        Ok(rows)
    }
}

/// Rows with what was counted in them before.
///
/// # Errors
/// A state does not decode; there are too many values.
pub fn merged(
    mut rows: BTreeMap<RowKey, RunningStatistics>,
    before: &[(RowKey, Vec<u8>)],
) -> Result<Vec<RowState>, SqlError> {
    for (key, state) in before {
        if let Some(row) = rows.get_mut(key) {
            let before = RunningStatistics::from_bytes(state).map_err(SqlError::fault)?;
            row.merge(&before).map_err(SqlError::fault)?;
        }
    }
    Ok(rows
        .iter()
        .map(|(key, statistics)| RowState::new(*key, statistics))
        .collect())
}
