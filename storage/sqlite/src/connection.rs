use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use shared_types::Clock;
use sqlx::{
    Connection, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use storage::{Result, StorageError};
use storage_sql::SqlError;

/// How long a statement waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an operation waits for its turn to write in this process.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
const READERS: u32 = 4;

/// Where a database lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a file, which is made where it is missing, directory included, for this user only.
    File(PathBuf),
    /// In memory, gone when the storage is dropped.
    Ephemeral,
}

/// The storage ports on one SQLite database.
pub struct SqliteStorage {
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
    location: Location,
    clock: Arc<dyn Clock>,
}

impl SqliteStorage {
    /// Storage in `location`, whose own clock is `clock`. To be called inside a Tokio runtime.
    ///
    /// # Errors
    /// `Fault` where the file or its directory cannot be made.
    pub fn open(location: Location, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::open_with_busy_timeout(location, clock, BUSY_TIMEOUT)
    }

    /// Opens the database. A statement waits `busy_timeout` for another process that writes.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    pub fn open_with_busy_timeout(
        location: Location,
        clock: Arc<dyn Clock>,
        busy_timeout: Duration,
    ) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .foreign_keys(true)
            .busy_timeout(busy_timeout);
        let one = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(TURN_TIMEOUT)
            .test_before_acquire(false);
        let (writer, readers) = match &location {
            Location::Ephemeral => {
                // A connection that is closed takes an ephemeral database with it.
                let only = one.min_connections(1).connect_lazy_with(options.in_memory(true));
                (only.clone(), only)
            }
            Location::File(path) => {
                // On some errors, such as a full disk, SQLite rolls a transaction back by itself. The driver's own
                // rollback then fails, and it takes the connection to be in that transaction for ever.
                let one = one.before_acquire(|connection, _| {
                    let is_clean = !connection.is_in_transaction();
                    Box::pin(async move { Ok(is_clean) })
                });
                make_private(path).map_err(|source| StorageError::Fault {
                    operation: "make the database file",
                    source: source.into(),
                })?;
                let options = options
                    .filename(path)
                    // What `record` has answered is promised to survive. With NORMAL a write-ahead log may lose its
                    // last commits when the power fails.
                    .synchronous(SqliteSynchronous::Full);
                let readers = SqlitePoolOptions::new()
                    .max_connections(READERS)
                    .acquire_timeout(TURN_TIMEOUT)
                    .test_before_acquire(false)
                    .connect_lazy_with(options.clone().pragma("query_only", "on"));
                // The file remembers its journal mode. Only the writer sets it: two connections that do so to a new file
                // at once lock each other out, whatever their timeout.
                (
                    one.connect_lazy_with(options.journal_mode(SqliteJournalMode::Wal)),
                    readers,
                )
            }
        };
        Ok(Self {
            writer,
            readers,
            location,
            clock,
        })
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Names an error after its operation.
    pub(crate) async fn run<T, F>(&self, operation: &'static str, attempt: impl FnOnce() -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, SqlError>>,
    {
        attempt().await.map_err(|error| error.during(operation))
    }

    /// A transaction that is the only one to write from its start on, so that it never has to give up half-way.
    pub(crate) async fn begin(&self) -> std::result::Result<Transaction<'static, Sqlite>, SqlError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

impl fmt::Debug for SqliteStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStorage")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// Makes the file, empty, so that SQLite finds it with our permissions; its companions (`-wal`, `-shm`) get the same.
fn make_private(path: &Path) -> io::Result<()> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory)?;
    }
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;
    use shared_types::{RegistrySeed, SystemClock};
    use storage::{Applied, BoxError, Maintenance, Outbox, Projection, Reconciliation, Recorded, Registry};
    use storage_conformance::samples::batches;

    use crate::{Location, SqliteStorage};

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
