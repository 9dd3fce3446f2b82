//! What reconciliation does as time goes by, and with rows that no port can make.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta};
use shared_types::{Clock, ManualClock};
use sqlx::{SqliteConnection, migrate::Migrator};
use storage::{
    BoxError, Hour, Maintenance, Outbox, Projection, Reconciliation, Requeued, SLOWEST_RECORD, Storage,
};
use storage_conformance::{direct_access::DirectAccess, samples::batches};
use storage_sqlite::{Location, SqliteStorage};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::file::{open, other_process, prepare};

type Outcome = Result<(), BoxError>;

const NOW: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_secs(60);

/// A database in a file, its clock, and another way into it.
struct Workbench {
    storage: Arc<SqliteStorage>,
    clock: Arc<ManualClock>,
    sql: Mutex<SqliteConnection>,
    _directory: TempDir,
}

impl Workbench {
    async fn at(now: TimeDelta) -> Result<Self, BoxError> {
        let directory = TempDir::new()?;
        let path = directory.path().join("llm-bench.db");
        let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH + now));
        let storage = SqliteStorage::open(Location::File(path.clone()), Arc::clone(&clock) as _)?;
        let mut sql = other_process(&path).await?;
        sqlx::query("PRAGMA foreign_keys = off").execute(&mut sql).await?;
        Ok(Self {
            storage: Arc::new(storage),
            clock,
            sql: Mutex::new(sql),
            _directory: directory,
        })
    }
}

#[async_trait]
impl DirectAccess for Workbench {
    async fn age(&self, by: Duration) -> Outcome {
        self.clock.advance(TimeDelta::from_std(by)?);
        Ok(())
    }

    async fn execute(&self, statement: &'static str) -> Result<u64, BoxError> {
        let mut sql = self.sql.lock().await;
        Ok(sqlx::query(statement).execute(&mut *sql).await?.rows_affected())
    }

    async fn number(&self, query: &'static str) -> Result<i64, BoxError> {
        let mut sql = self.sql.lock().await;
        Ok(sqlx::query_scalar(query).fetch_one(&mut *sql).await?)
    }
}

/// Years after the samples.
async fn with_direct_access() -> Result<(Arc<dyn Storage>, Arc<dyn DirectAccess>, ()), BoxError> {
    let bench = Workbench::at(TimeDelta::days(25_000)).await?;
    Ok((Arc::clone(&bench.storage) as _, Arc::new(bench), ()))
}

storage_conformance::direct_access_tests!(with_direct_access);

#[tokio::test]
async fn a_mark_from_the_future_is_taken_back() -> Outcome {
    let bench = Workbench::at(TimeDelta::days(1)).await?;
    prepare(&bench.storage).await?;
    let batches = batches(0..2)?;
    bench.storage.requeue_uncounted(MINUTE, 10).await?;
    let mark = "SELECT complete_until FROM reconciliation";
    assert_eq!(bench.number(mark).await?, i64::MIN, "nothing is stored");
    bench
        .execute("UPDATE reconciliation SET complete_until = 9000000000000000000")
        .await?;
    bench.storage.requeue_uncounted(MINUTE, 10).await?;
    let latest = bench.clock.now() - TimeDelta::from_std(SLOWEST_RECORD)?;
    assert!(bench.number(mark).await? <= latest.timestamp_micros());
    bench.storage.record(&batches).await?;
    let ids = [batches[0].id(), batches[1].id()];
    bench.storage.mark_published(&ids).await?;
    bench.age(3 * MINUTE).await?;
    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 10).await?.uncounted, 2);
    Ok(())
}

/// Here the database's clock is the process's.
#[tokio::test]
async fn a_clock_that_jumps_ahead_deletes_nothing() -> Outcome {
    let bench = Workbench::at(TimeDelta::days(1)).await?;
    prepare(&bench.storage).await?;
    bench.storage.apply(&batches(0..20)?).await?;
    bench.clock.advance(TimeDelta::days(400_000));
    let now = bench.clock.now();
    let pruned = bench.storage.prune(Duration::from_secs(86_400), now, 100).await?;
    assert_eq!((pruned.batches, pruned.retained_from), (0, Hour(0)));
    assert_eq!(bench.storage.counted_batches().await?, 20);
    Ok(())
}

/// A file of the first release, with what it has counted.
#[tokio::test]
async fn what_the_first_release_counted_is_rebuilt_like_the_rest() -> Outcome {
    let directory = TempDir::new()?;
    let path = directory.path().join("llm-bench.db");
    let storage = open(&path)?;
    let mut sql = other_process(&path).await?;
    let all = Migrator::new(std::path::Path::new("../../migrations/sqlite")).await?;
    let first = all.iter().take(1).cloned().collect();
    Migrator::with_migrations(first).run(&mut sql).await?;
    for statement in [
        "INSERT INTO llms (name, creator, created_at, updated_at) VALUES ('one', 'x', 0, 0)",
        "INSERT INTO metrics (title, unit, lower_bound, upper_bound, better, created_at, updated_at)
         VALUES ('ttft', 's', 0, 1, 'lower', 0, 0)",
        "INSERT INTO batches (id, llm_id, metric_id, source, batch_at, data_points, checksum, recorded_at)
         SELECT randomblob(16), 1, 1, 'simulated', 7, zeroblob(8), zeroblob(32), 7200000000
         FROM (VALUES (1), (2), (3))",
        "INSERT INTO ledger (batch_id, counted_at) SELECT id, 8 FROM batches",
    ] {
        sqlx::query(statement).execute(&mut sql).await?;
    }
    assert!(storage.migrate().await? > 0);
    let rebuilt = storage.rebuild(&|_, _| {}).await?;
    assert_eq!((rebuilt.batches, rebuilt.rows, rebuilt.changed), (3, 2, 2));
    assert_eq!(storage.audit(None, 100).await?.mismatches, []);
    assert_eq!(storage.requeue_uncounted(NOW, 100).await?, Requeued::default());
    let pruned = storage.prune(Duration::ZERO, Hour(1).start(), 100).await?;
    assert_eq!(pruned.batches, 3);
    Ok(())
}
