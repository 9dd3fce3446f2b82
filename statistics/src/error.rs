//! What can be refused: values, additions beyond the counter, bytes.

use thiserror::Error;

use crate::limits::{FORMAT_VERSION, MAX_COUNT};

/// A value that is NaN or infinite; statistics of it have no meaning, so it never enters a state.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error("value {index} is not finite: {value}")]
pub struct NonFinite {
    /// Position of the first such value in the slice that was offered.
    pub index: usize,
    /// The value itself.
    pub value: f64,
}

/// The number of values would exceed [`MAX_COUNT`](crate::MAX_COUNT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{count} and {added} more values are over the limit of {} values", MAX_COUNT)]
pub struct CountOverflow {
    /// Values already counted.
    pub count: u64,
    /// Values that were to be added.
    pub added: u64,
}

/// Why [`RunningStatistics::try_extend`](crate::RunningStatistics::try_extend) left the state as it was.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum ExtendError {
    /// One of the values is NaN or infinite.
    #[error(transparent)]
    NonFinite(#[from] NonFinite),
    /// There would be too many values.
    #[error(transparent)]
    CountOverflow(#[from] CountOverflow),
}

/// Why bytes are not a state written by [`RunningStatistics::to_bytes`](crate::RunningStatistics::to_bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end in the middle of a field.
    #[error("the bytes end in the middle of `{field}`")]
    Truncated {
        /// The field that is cut.
        field: &'static str,
    },
    /// Written by another version of the format.
    #[error("format version {found} is not known (known: {})", FORMAT_VERSION)]
    UnsupportedVersion {
        /// The version byte.
        found: u8,
    },
    /// A number that the field cannot hold.
    #[error("`{field}` is out of range")]
    OutOfRange {
        /// The field.
        field: &'static str,
    },
    /// The same content has a shorter or different canonical form, which alone is valid.
    #[error("`{field}` is not in its canonical form")]
    NotCanonical {
        /// The field.
        field: &'static str,
    },
    /// No set of values has these parts together.
    #[error("the parts contradict each other: {what}")]
    Inconsistent {
        /// The relation that does not hold.
        what: &'static str,
    },
    /// Bytes follow the end of the state.
    #[error("{count} bytes follow the end of the state")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}
