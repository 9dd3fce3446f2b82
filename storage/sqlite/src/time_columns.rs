//! Points in time as columns: whole microseconds since the Unix epoch, which sort as numbers.

use chrono::{DateTime, Utc};
use storage::step::StepError;

pub(crate) fn to_column(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

pub(crate) fn from_column(micros: i64) -> Result<DateTime<Utc>, StepError> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| StepError::fault(format!("{micros} µs is not a point in time")))
}

pub(crate) fn from_optional_column(micros: Option<i64>) -> Result<Option<DateTime<Utc>>, StepError> {
    micros.map(from_column).transpose()
}
