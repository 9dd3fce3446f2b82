use std::fmt;

use shared_types::{Invalid, InvalidChecksum};
use sqlx::migrate::MigrateError;
use storage::{BoxError, StorageError};

/// Why an operation failed, before its name is known: [`SqlError::during`] makes a [`StorageError`] of it.
#[derive(Debug)]
pub enum SqlError {
    /// See [`StorageError::Unavailable`].
    Unavailable(BoxError),
    /// See [`StorageError::Fault`].
    Fault(BoxError),
    /// An error of the port, such as `NotFound`, which its caller sees as it is.
    Port(StorageError),
}

impl SqlError {
    /// A fault that a retry does not heal.
    pub fn fault(source: impl Into<BoxError>) -> Self {
        Self::Fault(source.into())
    }

    /// There is no such row, or it is archived; `kind` as in [`StorageError::NotFound`].
    pub fn not_found(kind: &'static str, id: impl fmt::Display) -> Self {
        Self::Port(StorageError::NotFound {
            kind,
            id: id.to_string(),
        })
    }

    /// The name is taken; `kind` as in [`StorageError::NameTaken`].
    pub fn name_taken(kind: &'static str, name: impl fmt::Display) -> Self {
        Self::Port(StorageError::NameTaken {
            kind,
            name: name.to_string(),
        })
    }

    /// The error as the port's caller sees it.
    #[must_use]
    pub fn during(self, operation: &'static str) -> StorageError {
        match self {
            Self::Unavailable(source) => StorageError::Unavailable { operation, source },
            Self::Fault(source) => StorageError::Fault { operation, source },
            Self::Port(error) => error,
        }
    }
}

impl From<StorageError> for SqlError {
    fn from(error: StorageError) -> Self {
        Self::Port(error)
    }
}

/// Stored data that the constructors refuse.
impl From<Invalid> for SqlError {
    fn from(invalid: Invalid) -> Self {
        Self::fault(invalid)
    }
}

/// A stored checksum of another length.
impl From<InvalidChecksum> for SqlError {
    fn from(invalid: InvalidChecksum) -> Self {
        Self::fault(invalid)
    }
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) {
            Self::Unavailable(error.into())
        } else {
            Self::Fault(error.into())
        }
    }
}

impl From<MigrateError> for SqlError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::fault(other),
        }
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        // A server that dies in the middle of a message leaves half of it behind.
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_code(&code)),
        _ => false,
    }
}

/// PostgreSQL's codes have five characters, SQLite's are numbers of at most four digits.
fn is_transient_code(code: &str) -> bool {
    if code.len() == 5 {
        is_transient_sqlstate(code)
    } else {
        code.parse().is_ok_and(is_transient_result_code)
    }
}

/// PostgreSQL: SQLSTATE (its documentation, appendix A).
fn is_transient_sqlstate(code: &str) -> bool {
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
        "55P03", // lock timeout
        "57014", // statement timeout, or cancelled
        "25006", // read-only transaction: a standby that is not promoted yet
    ];
    CLASSES.iter().any(|class| code.starts_with(class)) || CODES.contains(&code)
}

/// SQLite: result code (<https://sqlite.org/rescode.html>); the low byte is the primary one.
fn is_transient_result_code(code: u32) -> bool {
    const BUSY: u32 = 5; // another process writes
    const LOCKED: u32 = 6;
    const IO_ERROR: u32 = 10; // the disk, which may come back
    const FULL: u32 = 13; // no space left
    const PROTOCOL: u32 = 15; // lost a race for the write-ahead log
    [BUSY, LOCKED, IO_ERROR, FULL, PROTOCOL].contains(&(code & 0xff))
}
