//! What reconciliation does as time goes by, and with rows that no port can make.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta};
use shared_types::{BatchId, ManualClock, MetricBatch};
use sqlx::{SqliteConnection, migrate::Migrator};
use storage::{
    Applied, BoxError, Hour, Maintenance, Outbox, Period, Projection, Reconciliation, Refusal, Requeued,
    SLOWEST_RECORD, conformance::samples::batches,
};
use storage_sqlite::{Location, SqliteStorage};
use tempfile::TempDir;

use crate::file::{open, other_process, prepare};

type Outcome = Result<(), BoxError>;

const NOW: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn ids(batches: &[MetricBatch]) -> Vec<BatchId> {
    batches.iter().map(MetricBatch::id).collect()
}

fn found(uncounted: u64, requeued: u64) -> Requeued {
    Requeued { uncounted, requeued }
}

/// A database in a file, a clock to set, and a connection for whatever a port does not do.
struct Workbench {
    storage: SqliteStorage,
    clock: Arc<ManualClock>,
    sql: SqliteConnection,
    _directory: TempDir,
}

impl Workbench {
    async fn new() -> Result<Self, BoxError> {
        let directory = TempDir::new()?;
        let path = directory.path().join("llm-bench.db");
        let clock = Arc::new(ManualClock::at(DateTime::UNIX_EPOCH + TimeDelta::days(1)));
        let storage = SqliteStorage::open(Location::File(path.clone()), Arc::clone(&clock) as _)?;
        prepare(&storage).await?;
        Ok(Self {
            storage,
            clock,
            sql: other_process(&path).await?,
            _directory: directory,
        })
    }

    /// Stores batches that the broker confirms and loses.
    async fn lose(&self, batches: &[MetricBatch]) -> Outcome {
        self.storage.record(batches).await?;
        self.storage.mark_published(&ids(batches)).await?;
        Ok(())
    }

    async fn execute(&mut self, statement: &'static str) -> Result<u64, BoxError> {
        Ok(sqlx::query(statement)
            .execute(&mut self.sql)
            .await?
            .rows_affected())
    }

    async fn complete_until(&mut self) -> Result<i64, BoxError> {
        Ok(sqlx::query_scalar("SELECT complete_until FROM reconciliation")
            .fetch_one(&mut self.sql)
            .await?)
    }

    fn micros_now(&self) -> i64 {
        use shared_types::Clock;
        self.clock.now().timestamp_micros()
    }
}

#[tokio::test]
async fn the_wait_before_a_batch_is_requeued_again_doubles_up_to_a_day() -> Outcome {
    let bench = Workbench::new().await?;
    let batches = batches(0..1)?;
    bench.lose(&batches).await?;
    let requeue = async || bench.storage.requeue_uncounted(MINUTE, 10).await;
    bench.clock.advance(TimeDelta::seconds(59));
    assert_eq!(requeue().await?, found(0, 0));
    bench.clock.advance(TimeDelta::seconds(1));
    assert_eq!(requeue().await?, found(1, 1));
    for minutes in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440] {
        bench.storage.mark_published(&ids(&batches)).await?;
        bench.clock.advance(TimeDelta::seconds(minutes * 60 - 1));
        assert_eq!(requeue().await?, found(1, 0), "{minutes} minutes");
        bench.clock.advance(TimeDelta::seconds(1));
        assert_eq!(requeue().await?, found(1, 1), "{minutes} minutes");
    }
    Ok(())
}

/// What is behind the mark is not looked at again, so nothing that may still be requeued may be behind it.
#[tokio::test]
async fn the_reconciler_remembers_how_far_it_has_looked() -> Outcome {
    let mut bench = Workbench::new().await?;
    let batches = batches(0..31)?;
    let (batches, newest) = batches.split_at(30);
    let first = bench.micros_now();
    bench.lose(&batches[..10]).await?;
    bench.clock.advance(TimeDelta::seconds(1));
    let waiting = bench.micros_now();
    bench.storage.record(&batches[10..20]).await?;
    bench.clock.advance(TimeDelta::seconds(1));
    bench.lose(&batches[20..]).await?;
    bench.clock.advance(TimeDelta::hours(1));
    // Nothing is claimed to be seen that is not long before the newest one.
    bench.lose(newest).await?;

    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 5).await?, found(5, 5));
    assert_eq!(bench.complete_until().await?, first, "the limit has left some");
    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 100).await?, found(20, 15));
    assert_eq!(
        bench.complete_until().await?,
        waiting,
        "some have not even left the outbox"
    );
    bench.storage.mark_published(&ids(batches)).await?;
    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 100).await?, found(30, 10));
    bench.storage.mark_published(&ids(batches)).await?;
    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 100).await?, found(30, 0));
    let slowest = i64::try_from(SLOWEST_RECORD.as_micros())?;
    assert_eq!(bench.complete_until().await?, bench.micros_now() - slowest);
    bench.storage.apply(batches).await?;
    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 100).await?, found(0, 0));
    Ok(())
}

/// A clock that ran ahead must not hide what is stored once it is right again.
#[tokio::test]
async fn the_mark_is_never_beyond_the_newest_batch_and_comes_back_from_the_future() -> Outcome {
    let mut bench = Workbench::new().await?;
    let batches = batches(0..4)?;
    bench.storage.requeue_uncounted(MINUTE, 10).await?;
    assert_eq!(bench.complete_until().await?, i64::MIN, "nothing is stored");
    bench.lose(&batches[..2]).await?;
    let slowest = i64::try_from(SLOWEST_RECORD.as_micros())?;
    let newest = bench.micros_now();
    bench.clock.advance(TimeDelta::days(400));
    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 10).await?, found(2, 2));
    bench.storage.mark_published(&ids(&batches)).await?;
    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 10).await?, found(2, 0));
    assert_eq!(bench.complete_until().await?, newest - slowest);

    bench
        .execute("UPDATE reconciliation SET complete_until = 9000000000000000000")
        .await?;
    bench.storage.requeue_uncounted(MINUTE, 10).await?;
    assert!(bench.complete_until().await? <= bench.micros_now() - slowest);
    bench.lose(&batches[2..]).await?;
    bench.clock.advance(TimeDelta::minutes(3));
    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 10).await?.uncounted, 4);
    Ok(())
}

#[tokio::test]
async fn batches_that_an_operator_deletes_leave_nothing_behind() -> Outcome {
    let mut bench = Workbench::new().await?;
    let batches = batches(0..4)?;
    bench.lose(&batches[..2]).await?;
    bench.clock.advance(TimeDelta::hours(1));
    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 10).await?, found(2, 2));
    bench.storage.record(&batches[2..]).await?;
    bench.execute("PRAGMA foreign_keys = off").await?;
    assert_eq!(bench.execute("DELETE FROM batches").await?, 4);
    assert_eq!(bench.storage.outbox_depth().await?.unpublished, 4);
    assert_eq!(bench.storage.requeue_uncounted(MINUTE, 10).await?, found(0, 0));
    assert_eq!(bench.storage.outbox_depth().await?.unpublished, 0);
    Ok(())
}

/// Here the database's clock is the process's.
#[tokio::test]
async fn a_clock_that_jumps_ahead_deletes_nothing() -> Outcome {
    let bench = Workbench::new().await?;
    bench.storage.apply(&batches(0..20)?).await?;
    bench.clock.advance(TimeDelta::days(400_000));
    let now = shared_types::Clock::now(&*bench.clock);
    let pruned = bench.storage.prune(Duration::from_secs(86_400), now, 100).await?;
    assert_eq!((pruned.batches, pruned.retained_from), (0, Hour(0)));
    assert_eq!(bench.storage.counted_batches().await?, 20);
    Ok(())
}

#[tokio::test]
async fn an_audit_names_what_was_tampered_with() -> Outcome {
    let mut bench = Workbench::new().await?;
    bench.storage.apply(&batches(0..50)?).await?;
    for tampering in [
        "UPDATE statistics SET state = x'00' WHERE (llm_id, metric_id, source, period) =
         (SELECT llm_id, metric_id, source, period FROM statistics ORDER BY 1, 2, 3, 4 LIMIT 1)",
        "DELETE FROM statistics WHERE (llm_id, metric_id, source, period) =
         (SELECT llm_id, metric_id, source, period FROM statistics ORDER BY 1 DESC, 2 DESC, 3 DESC, 4 DESC LIMIT 1)",
        "INSERT INTO statistics (llm_id, metric_id, source, period, state, n, revision, updated_at)
         SELECT llm_id, metric_id, source, 7, state, n, revision, updated_at FROM statistics
         ORDER BY llm_id DESC, metric_id DESC, source DESC, period DESC LIMIT 1",
    ] {
        assert_eq!(bench.execute(tampering).await?, 1);
    }
    let audit = bench.storage.audit(None, 1000).await?;
    assert_eq!((audit.batches, audit.next), (50, None));
    let periods: Vec<Period> = audit.mismatches.iter().map(|row| row.period).collect();
    // The all-time row of the first key; of the last key also, which is no longer the merge of its hours.
    assert_eq!(
        periods[..3],
        [Period::AllTime, Period::AllTime, Period::Hour(Hour(7))]
    );
    assert!(
        matches!(periods[3..], [Period::Hour(hour)] if hour > Hour(7)),
        "{periods:?}"
    );
    assert_eq!(bench.storage.rebuild(&|_, _| {}).await?.changed, 3);
    assert_eq!(bench.storage.audit(None, 1000).await?.mismatches, []);
    Ok(())
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_does_not_hold_up_its_neighbours() -> Outcome {
    let mut bench = Workbench::new().await?;
    let batches = batches(0..3)?;
    bench.storage.record(&batches).await?;
    sqlx::query("UPDATE batches SET data_points = zeroblob(8) WHERE id = $1")
        .bind(batches[1].id().as_uuid())
        .execute(&mut bench.sql)
        .await?;
    let readable = [batches[0].clone(), batches[2].clone()];
    let storage = &bench.storage;
    assert_eq!(storage.claim_unpublished(10, NOW, HOUR).await?, readable);
    assert_eq!(
        storage.claim_unpublished(10, NOW, HOUR).await?,
        [],
        "all are claimed"
    );
    storage.mark_published(&ids(&readable)).await?;
    assert_eq!(storage.claim_unpublished(10, NOW, NOW).await?, []);
    assert_eq!(storage.outbox_depth().await?.unpublished, 1, "it is still there");
    Ok(())
}

#[tokio::test]
async fn what_is_stored_too_late_is_never_counted_and_never_requeued() -> Outcome {
    let mut bench = Workbench::new().await?;
    let batches = batches(0..2)?;
    bench.lose(&batches).await?;
    bench.clock.advance(TimeDelta::days(1));
    bench
        .execute("UPDATE retention SET retained_from = 4102444800000000")
        .await?;
    let applied = bench.storage.apply(&batches).await?;
    let too_old = |outcome: &Applied| matches!(outcome, Applied::Refused(Refusal::TooOld { .. }));
    assert!(applied.iter().all(too_old), "{applied:?}");
    assert_eq!(bench.storage.requeue_uncounted(NOW, 10).await?, found(0, 0));
    Ok(())
}

/// A file of the first release, with what it has counted.
#[tokio::test]
async fn what_was_counted_before_the_ledger_knew_when_is_rebuilt_like_the_rest() -> Outcome {
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
    assert_eq!(storage.requeue_uncounted(NOW, 100).await?, found(0, 0));
    let pruned = storage.prune(Duration::ZERO, Hour(1).start(), 100).await?;
    assert_eq!(pruned.batches, 3);
    Ok(())
}
