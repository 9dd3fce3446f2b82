use chrono::{DateTime, Utc};
use shared_types::{LlmId, MetricId};

use storage::{Hour, Period, StatisticsKey, StatisticsRow};

use crate::{SqlError, statistics_rows::RowKey};

/// The column of [`Period::AllTime`]. It sorts before every hour, and no hour that a timestamp can have is near it.
pub const ALL_TIME: i64 = i64::MIN;

/// The first hour that a column can hold beside [`ALL_TIME`].
pub const FIRST_HOUR: Hour = Hour(ALL_TIME + 1);

/// A period as a column: hours since the Unix epoch, or [`ALL_TIME`]. Keeps the order.
#[must_use]
pub fn period_column(period: Period) -> i64 {
    match period {
        Period::AllTime => ALL_TIME,
        Period::Hour(Hour(hour)) => hour,
    }
}

fn period_from_column(column: i64) -> Period {
    if column == ALL_TIME {
        Period::AllTime
    } else {
        Period::Hour(Hour(column))
    }
}

/// The columns of a statistics row's key.
///
/// # Errors
/// A fault where they do not decode.
pub fn statistics_key(llm_id: i64, metric_id: i64, source: &str) -> Result<StatisticsKey, SqlError> {
    Ok(StatisticsKey {
        llm: LlmId(llm_id),
        metric: MetricId(metric_id),
        source: source.parse()?,
    })
}

/// The columns of a statistics row.
#[must_use]
pub fn statistics_row(
    key: StatisticsKey,
    period: i64,
    state: Vec<u8>,
    updated_at: DateTime<Utc>,
) -> StatisticsRow {
    StatisticsRow {
        key,
        period: period_from_column(period),
        state,
        updated_at,
    }
}

/// The columns of the primary key of `statistics`, out.
///
/// # Errors
/// A fault where they do not decode.
pub fn row_key(llm_id: i64, metric_id: i64, source: &str, period: i64) -> Result<RowKey, SqlError> {
    Ok(RowKey {
        key: statistics_key(llm_id, metric_id, source)?,
        period: period_from_column(period),
    })
}

/// The columns of the primary key of `statistics`, in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns' names in the database")]
pub struct RowKeyColumns {
    pub llm_id: i64,
    pub metric_id: i64,
    pub source: &'static str,
    pub period: i64,
}

impl RowKeyColumns {
    /// Where a page begins that shows what comes after `row` in the order of the primary key; without a row, before
    /// all there can be: ids start at 1.
    #[must_use]
    pub fn after(row: Option<RowKey>) -> Self {
        row.map_or(
            Self {
                llm_id: 0,
                metric_id: 0,
                source: "",
                period: ALL_TIME,
            },
            Self::from,
        )
    }
}

impl From<RowKey> for RowKeyColumns {
    fn from(RowKey { key, period }: RowKey) -> Self {
        Self {
            llm_id: key.llm.0,
            metric_id: key.metric.0,
            source: key.source.as_str(),
            period: period_column(period),
        }
    }
}
