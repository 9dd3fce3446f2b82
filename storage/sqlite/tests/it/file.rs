//! The file: who may read it, who else holds it, what is in it after it was closed.

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta};
use shared_types::{ManualClock, RegistrySeed, SystemClock};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use storage::{
    BatchArchive, BoxError, Hour, Maintenance, Outbox, Projection, Reconciliation, Recorded, Registry,
    StorageError,
};
use storage_conformance::samples::batches;
use storage_sqlite::{Location, SqliteStorage};
use tempfile::TempDir;

type Outcome = Result<(), BoxError>;

pub(crate) fn open(path: &Path) -> Result<SqliteStorage, StorageError> {
    SqliteStorage::open(Location::File(path.to_owned()), Arc::new(SystemClock))
}

pub(crate) async fn prepare(storage: &SqliteStorage) -> Outcome {
    storage.migrate().await?;
    storage
        .seed(&RegistrySeed::standard()?, DateTime::UNIX_EPOCH)
        .await?;
    Ok(())
}

/// What another process would have.
pub(crate) async fn other_process(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new().filename(path).connect().await
}

#[tokio::test]
async fn everything_is_there_after_reopening() -> Outcome {
    let directory = TempDir::new()?;
    let path = directory.path().join("llm-bench.db");
    let batches = batches(0..30)?;
    let first = open(&path)?;
    prepare(&first).await?;
    first.record(&batches).await?;
    first.apply(&batches[..20]).await?;
    first.mark_published(&[batches[0].id()]).await?;
    let before = first.statistics_since(None, Hour(0)).await?;
    let llms = first.llms().await?;
    first.close().await;

    let second = open(&path)?;
    assert_eq!(second.migrate().await?, 0);
    assert_eq!(second.statistics_since(None, Hour(0)).await?, before);
    assert_eq!(second.llms().await?, llms);
    assert_eq!(second.outbox_depth().await?.unpublished, 29);
    assert_eq!(second.counted_batches().await?, 20);
    assert_eq!(second.record(&batches).await?, vec![Recorded::AlreadyStored; 30]);
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_and_its_directory_are_private() -> Outcome {
    use std::os::unix::fs::PermissionsExt;

    let directory = TempDir::new()?;
    let made = directory.path().join("made/here");
    let storage = open(&made.join("llm-bench.db"))?;
    prepare(&storage).await?;
    let mode = |path: &Path| Ok::<_, std::io::Error>(path.metadata()?.permissions().mode() & 0o777);
    assert_eq!(mode(&made)?, 0o700);
    let mut files = 0;
    for file in made.read_dir()? {
        assert_eq!(mode(&file?.path())?, 0o600);
        files += 1;
    }
    assert_eq!(files, 3, "the file, its log, its shared memory");
    Ok(())
}

#[tokio::test]
async fn a_file_that_another_process_writes_is_unavailable_until_it_is_done() -> Outcome {
    let directory = TempDir::new()?;
    let path = directory.path().join("llm-bench.db");
    let storage = SqliteStorage::open_with_busy_timeout(
        Location::File(path.clone()),
        Arc::new(SystemClock),
        Duration::ZERO,
    )?;
    prepare(&storage).await?;
    let batches = batches(0..3)?;
    let mut other = other_process(&path).await?;
    let writing = other.begin_with("BEGIN IMMEDIATE").await?;
    for error in [
        storage.record(&batches).await.unwrap_err(),
        storage.apply(&batches).await.unwrap_err(),
        storage.mark_published(&[batches[0].id()]).await.unwrap_err(),
    ] {
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    }
    assert_eq!(storage.llms().await?.len(), 4, "readers go on");
    writing.rollback().await?;
    assert_eq!(storage.record(&batches).await?, vec![Recorded::Stored; 3]);
    Ok(())
}

/// Whoever holds the file alone before it has a write-ahead log keeps readers out too.
#[tokio::test]
async fn a_file_that_another_process_holds_alone_is_unavailable_until_it_lets_go() -> Outcome {
    let directory = TempDir::new()?;
    let path = directory.path().join("llm-bench.db");
    let storage = SqliteStorage::open_with_busy_timeout(
        Location::File(path.clone()),
        Arc::new(SystemClock),
        Duration::ZERO,
    )?;
    let mut other = other_process(&path).await?;
    let holding = other.begin_with("BEGIN EXCLUSIVE").await?;
    let batches = batches(0..3)?;
    for error in [
        storage.migrate().await.unwrap_err(),
        storage.ping().await.unwrap_err(),
        storage.llms().await.unwrap_err(),
        storage.record(&batches).await.unwrap_err(),
        storage.apply(&batches).await.unwrap_err(),
        storage.requeue_uncounted(Duration::ZERO, 1).await.unwrap_err(),
        storage
            .prune(Duration::ZERO, DateTime::UNIX_EPOCH, 1)
            .await
            .unwrap_err(),
        storage.audit(None, 1).await.unwrap_err(),
        storage.rebuild(&|_, _| {}).await.unwrap_err(),
    ] {
        assert!(error.is_transient(), "{error:?}");
    }
    holding.rollback().await?;
    prepare(&storage).await?;
    assert_eq!(storage.record(&batches).await?, vec![Recorded::Stored; 3]);
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_no_database_is_a_fault() -> Outcome {
    let directory = TempDir::new()?;
    let path = directory.path().join("llm-bench.db");
    std::fs::write(&path, "x".repeat(10_000))?;
    let fault = open(&path)?.migrate().await;
    assert!(matches!(fault, Err(StorageError::Fault { .. })), "{fault:?}");

    let below_a_file = open(&path.join("llm-bench.db"));
    assert!(
        matches!(below_a_file, Err(StorageError::Fault { .. })),
        "{below_a_file:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_rebuild_repairs_what_was_tampered_with() -> Outcome {
    let directory = TempDir::new()?;
    let path = directory.path().join("llm-bench.db");
    let storage = open(&path)?;
    prepare(&storage).await?;
    storage.apply(&batches(0..50)?).await?;
    let before = storage.statistics_since(None, Hour(0)).await?;
    let mut sql = other_process(&path).await?;
    for tampering in [
        "UPDATE statistics SET state = x'00' WHERE rowid = (SELECT min(rowid) FROM statistics)",
        "DELETE FROM statistics WHERE rowid = (SELECT max(rowid) FROM statistics)",
        "INSERT INTO statistics (llm_id, metric_id, source, period, state, n, revision, updated_at)
         SELECT llm_id, metric_id, source, 7, state, n, revision, updated_at FROM statistics
         WHERE rowid = (SELECT max(rowid) FROM statistics)",
    ] {
        assert_eq!(sqlx::query(tampering).execute(&mut sql).await?.rows_affected(), 1);
    }
    assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 3);
    let after = storage.statistics_since(None, Hour(0)).await?;
    let states = |change: storage::StatisticsChange| {
        let mut states: Vec<_> = change
            .rows
            .into_iter()
            .map(|row| (row.key, row.period, row.state))
            .collect();
        states.sort();
        states
    };
    assert_eq!(states(after), states(before));
    Ok(())
}

#[tokio::test]
async fn ages_and_leases_are_measured_by_the_clock_given() -> Outcome {
    let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH));
    let storage = SqliteStorage::open(Location::Ephemeral, Arc::clone(&clock) as _)?;
    prepare(&storage).await?;
    let batches = batches(0..2)?;
    storage.record(&batches).await?;
    let (grace, lease) = (Duration::from_secs(2), Duration::from_secs(30));
    let claimed = async || {
        storage
            .claim_unpublished(10, grace, lease)
            .await
            .map(|claimed| claimed.len())
    };
    clock.advance(TimeDelta::milliseconds(1999));
    assert_eq!(claimed().await?, 0);
    clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(storage.outbox_depth().await?.oldest, Some(grace));
    assert_eq!(claimed().await?, 2);
    clock.advance(TimeDelta::milliseconds(29_999));
    assert_eq!(claimed().await?, 0);
    clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(claimed().await?, 2);
    let stored = storage.batch(batches[0].id()).await?.ok_or("it was stored")?;
    assert_eq!(stored.recorded_at, DateTime::UNIX_EPOCH);
    Ok(())
}
