/// A cause, whatever its type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of every port's methods.
pub type Result<T> = std::result::Result<T, StorageError>;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database cannot be reached, is shutting down, timed out, or gave up on a conflict with another session.
    /// Whether the operation was committed is unknown. The same call will succeed once the fault has healed.
    #[error("{operation}: the database is unavailable")]
    Unavailable {
        /// What was being done, such as `record batches`.
        operation: &'static str,
        /// The driver's error.
        source: BoxError,
    },
    /// A rebuild of the statistics goes on, which may take minutes or hours. Nothing is counted until it is over, or until
    /// it has failed.
    #[error("the statistics are being rebuilt")]
    Rebuilding,
    /// The database answered, and the answer is a fault that a retry does not heal: a missing table, a refused
    /// permission, stored data that does not decode.
    #[error("{operation} failed")]
    Fault {
        /// What was being done.
        operation: &'static str,
        /// The driver's or the decoder's error.
        source: BoxError,
    },
    /// The name is taken by another LLM or metric that is not archived.
    #[error("the {kind} {name:?} exists already")]
    NameTaken {
        /// `LLM` or `metric`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// There is no such row, or it is archived.
    #[error("there is no {kind} {id}")]
    NotFound {
        /// `LLM`, `metric` or `API key`.
        kind: &'static str,
        /// What was asked for.
        id: String,
    },
    /// A change would make a row invalid, such as bounds with lower ≥ upper.
    #[error(transparent)]
    Invalid(#[from] shared_types::Invalid),
}

impl StorageError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Rebuilding)
    }
}
