use storage::{StorageError, step::StepError};

/// An error of a step, already told apart into transient and permanent, not yet named after its operation.
#[derive(Debug)]
pub(crate) struct SqlError(StepError);

impl SqlError {
    pub(crate) fn during(self, operation: &'static str) -> StorageError {
        self.0.during(operation)
    }

    /// A refusal that the port's caller is to see as it is.
    pub(crate) fn answer(error: StorageError) -> Self {
        Self(StepError::Answer(error))
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

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        Self(if is_transient(&error) {
            StepError::Unavailable(error.into())
        } else {
            StepError::Fault(error.into())
        })
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error
            .code()
            .and_then(|code| code.parse().ok())
            .is_some_and(is_transient_code),
        _ => false,
    }
}

/// By result code (<https://sqlite.org/rescode.html>); the low byte is the primary one.
fn is_transient_code(code: u32) -> bool {
    const BUSY: u32 = 5; // another process writes
    const LOCKED: u32 = 6;
    const IO_ERROR: u32 = 10; // the disk, which may come back
    const FULL: u32 = 13; // no space left
    const PROTOCOL: u32 = 15; // lost a race for the write-ahead log
    [BUSY, LOCKED, IO_ERROR, FULL, PROTOCOL].contains(&(code & 0xff))
}
