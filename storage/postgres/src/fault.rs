use storage::{StorageError, step::StepError};

/// An error of a step, already told apart into transient and permanent, not yet named after its operation.
#[derive(Debug)]
pub(crate) struct SqlError(StepError);

impl SqlError {
    pub(crate) fn during(self, operation: &'static str) -> StorageError {
        self.0.during(operation)
    }

    /// No answer in time.
    pub(crate) fn unavailable(source: tokio::time::error::Elapsed) -> Self {
        Self(StepError::Unavailable(source.into()))
    }
}

impl From<SqlError> for StepError {
    fn from(SqlError(error): SqlError) -> Self {
        error
    }
}

impl From<StepError> for SqlError {
    fn from(error: StepError) -> Self {
        Self(error)
    }
}

/// A refusal that the port's caller is to see as it is.
impl From<StorageError> for SqlError {
    fn from(answer: StorageError) -> Self {
        Self(StepError::Answer(answer))
    }
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        Self(if is_transient(&error) {
            StepError::Unavailable(error.into())
        } else {
            StepError::Fault(error.into())
        })
    }
}

pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        // A server that dies in mid-message leaves half of one behind.
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_state(&code)),
        _ => false,
    }
}

/// Somebody else holds the lock.
pub(crate) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let error = error.as_database_error();
    error.is_some_and(|error| error.code().is_some_and(|code| code == LOCK_TIMEOUT))
}

const LOCK_TIMEOUT: &str = "55P03";

/// By SQLSTATE (PostgreSQL's documentation, appendix A).
fn is_transient_state(code: &str) -> bool {
    const CLASSES: [&str; 2] = [
        "08", // connection exception
        "53", // insufficient resources: disk full, out of memory, too many connections
    ];
    const CODES: [&str; 10] = [
        "57P01", // admin shutdown
        "57P02", // crash shutdown
        "57P03", // cannot connect now: starting up or in recovery
        "57P05", // idle session timeout
        "25P03", // idle in transaction: this process was frozen
        "40001", // serialization failure
        "40P01", // deadlock detected
        LOCK_TIMEOUT,
        "57014", // statement timeout, or cancelled
        "25006", // read-only transaction: a standby that is not promoted yet
    ];
    CLASSES.iter().any(|class| code.starts_with(class)) || CODES.contains(&code)
}
