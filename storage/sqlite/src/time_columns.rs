//! Points in time as columns: whole microseconds since the Unix epoch, which sort as numbers.

use chrono::{DateTime, Utc};
use storage::Hour;
use storage_sql::SqlError;

pub(crate) fn to_column(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

pub(crate) fn from_column(micros: i64) -> Result<DateTime<Utc>, SqlError> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| SqlError::fault(format!("{micros} µs is not a point in time")))
}

pub(crate) fn from_optional_column(micros: Option<i64>) -> Result<Option<DateTime<Utc>>, SqlError> {
    micros.map(from_column).transpose()
}

/// The first moment of an hour; the ends of time where the calendar does not reach.
pub(crate) fn start_of(hour: Hour) -> i64 {
    hour.0.saturating_mul(3_600_000_000)
}
