use storage::{StorageError, step::StepError};

/// An error of a step, already told apart into transient and permanent, not yet named after its operation.
#[derive(Debug)]
pub(crate) struct SqlError(StepError);

impl SqlError {
    pub(crate) fn during(self, operation: &'static str) -> StorageError {
        self.0.during(operation)
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

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // The temporary table of a rebuild goes with its connection, which the pool replaces after some errors.
        sqlx::Error::Database(error) if error.message() == "no such table: rebuilt" => true,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;
    use shared_types::{RegistrySeed, SystemClock};
    use storage::{
        Applied, BoxError, Maintenance, Outbox, Projection, Reconciliation, Recorded, Registry,
        conformance::samples::batches,
    };

    use crate::{Location, SqliteStorage};

    #[tokio::test]
    async fn a_rebuild_that_lost_its_temporary_table_may_be_tried_again() -> Result<(), BoxError> {
        let storage = SqliteStorage::open(Location::Ephemeral, Arc::new(SystemClock))?;
        let lost = sqlx::query("DELETE FROM rebuilt").execute(&storage.writer).await;
        assert!(super::is_transient(&lost.unwrap_err()));
        let other = sqlx::query("DELETE FROM elsewhere")
            .execute(&storage.writer)
            .await;
        assert!(!super::is_transient(&other.unwrap_err()));
        Ok(())
    }

    /// A limit on the pages of the file does what a full disk does, at the same places.
    #[tokio::test]
    async fn a_full_disk_is_unavailable_until_there_is_space() -> Result<(), BoxError> {
        let storage = SqliteStorage::open(Location::Ephemeral, Arc::new(SystemClock))?;
        storage.migrate().await?;
        storage
            .seed(&RegistrySeed::standard()?, DateTime::UNIX_EPOCH)
            .await?;
        let (kept, more) = (batches(0..20)?, batches(20..400)?);
        storage.record(&kept).await?;
        storage.apply(&kept[..10]).await?;
        sqlx::query("PRAGMA max_page_count = 1")
            .execute(&storage.writer)
            .await?;
        for error in [
            storage.record(&more).await.unwrap_err(),
            storage.apply(&more).await.unwrap_err(),
        ] {
            assert!(error.is_transient(), "{error:?}");
        }
        assert_eq!(storage.counted_batches().await?, 10, "all or nothing");
        assert_eq!(storage.audit(None, 1000).await?.mismatches, [], "readers go on");

        sqlx::query("PRAGMA max_page_count = 1000000")
            .execute(&storage.writer)
            .await?;
        let recorded = storage.record(&more).await?;
        assert!(recorded.iter().all(|outcome| *outcome == Recorded::Stored));
        let applied = storage.apply(&more).await?;
        assert!(applied.iter().all(|outcome| *outcome == Applied::Counted));
        Ok(())
    }
}
