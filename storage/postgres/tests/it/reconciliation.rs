//! What reconciliation and retention do by a clock that cannot be set, with rows that no port can make, and in a race.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::DateTime;
use futures::future::{try_join, try_join3};
use sqlx::{AssertSqlSafe, Connection, PgConnection, migrate::Migrator};
use storage::{
    Applied, BoxError, Hour, Maintenance, Outbox, Projection, Reconciliation, Recorded, Refusal, Requeued,
    Storage, StorageError,
};
use storage_conformance::{direct_access::DirectAccess, samples::batches};
use tokio::{runtime::Handle, sync::Mutex};

use crate::{
    RETENTION, connect, empty_database,
    schema::{prepared, prepared_at},
    sessions_wait,
};

type Outcome = Result<(), BoxError>;

const NOW: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_secs(60);

async fn execute(sql: &mut PgConnection, statement: &'static str) -> Result<u64, BoxError> {
    Ok(sqlx::query(statement).execute(sql).await?.rows_affected())
}

struct Workbench(Mutex<PgConnection>);

#[async_trait]
impl DirectAccess for Workbench {
    /// The server's clock cannot be set: everything that it dated is dated back.
    async fn age(&self, by: Duration) -> Outcome {
        let mut sql = self.0.lock().await;
        for backdate in [
            "UPDATE batches SET recorded_at = recorded_at - make_interval(secs => $1)",
            "UPDATE outbox SET recorded_at = recorded_at - make_interval(secs => $1),
                               claimed_at = claimed_at - make_interval(secs => $1)",
            "UPDATE uncounted SET requeued_at = requeued_at - make_interval(secs => $1)",
            "UPDATE reconciliation SET complete_until = complete_until - make_interval(secs => $1)",
        ] {
            sqlx::query(backdate)
                .bind(by.as_secs_f64())
                .execute(&mut *sql)
                .await?;
        }
        Ok(())
    }

    async fn execute(&self, statement: &'static str) -> Result<u64, BoxError> {
        execute(&mut *self.0.lock().await, statement).await
    }

    async fn number(&self, query: &'static str) -> Result<i64, BoxError> {
        let mut sql = self.0.lock().await;
        Ok(sqlx::query_scalar(query).fetch_one(&mut *sql).await?)
    }
}

async fn with_direct_access() -> Result<(Arc<dyn Storage>, Arc<dyn DirectAccess>, ()), BoxError> {
    let url = empty_database().await?;
    let sql = PgConnection::connect(&url).await?;
    Ok((Arc::new(connect(&url)?), Arc::new(Workbench(Mutex::new(sql))), ()))
}

storage_conformance::direct_access_tests!(with_direct_access);

/// Raises the limit beyond every batch, and commits when `work` stands there, with a snapshot from before.
async fn with_a_limit_raised_meanwhile<T>(
    url: &str,
    work: impl Future<Output = storage::Result<T>>,
) -> Result<T, BoxError> {
    let mut sql = PgConnection::connect(url).await?;
    let mut watch = PgConnection::connect(url).await?;
    let mut raising = sql.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(RETENTION)
        .execute(&mut *raising)
        .await?;
    sqlx::query("UPDATE retention SET retained_from = '2100-01-01T00:00:00Z'")
        .execute(&mut *raising)
        .await?;
    let raised = async {
        sessions_wait(&mut watch, 1).await;
        raising.commit().await?;
        Ok(())
    };
    let (done, ()) = try_join(async { Ok::<_, BoxError>(work.await?) }, raised).await?;
    Ok(done)
}

#[tokio::test]
async fn whoever_counts_learns_of_a_limit_that_was_raised_meanwhile() -> Outcome {
    let (storage, url) = prepared_at().await?;
    let batches = batches(0..4)?;
    storage.record(&batches[..2]).await?;
    let applied = with_a_limit_raised_meanwhile(&url, storage.apply(&batches)).await?;
    let too_old = |outcome: &Applied| matches!(outcome, Applied::Refused(Refusal::TooOld { .. }));
    assert!(applied.iter().all(too_old), "{applied:?}");
    assert_eq!(storage.counted_batches().await?, 0);
    Ok(())
}

#[tokio::test]
async fn whoever_records_learns_of_a_limit_that_was_raised_meanwhile() -> Outcome {
    let (storage, url) = prepared_at().await?;
    let batches = batches(0..4)?;
    let recorded = with_a_limit_raised_meanwhile(&url, storage.record(&batches)).await?;
    let too_old = |outcome: &Recorded| matches!(outcome, Recorded::Refused(Refusal::TooOld { .. }));
    assert!(recorded.iter().all(too_old), "{recorded:?}");
    assert_eq!(storage.outbox_depth().await?.unpublished, 0);
    let mut sql = PgConnection::connect(&url).await?;
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM batches")
        .fetch_one(&mut sql)
        .await?;
    assert_eq!(stored, 0);
    Ok(())
}

#[tokio::test]
async fn the_limit_is_not_raised_above_a_batch_that_is_being_recorded() -> Outcome {
    const DAY: Duration = Duration::from_secs(86_400);
    let (storage, url) = prepared_at().await?;
    let batches = batches(0..20)?;
    let (late, counted) = batches.split_first().ok_or("there are some")?;
    storage.apply(counted).await?;
    let hour = Hour::of(late.timestamp());
    let mut sql = PgConnection::connect(&url).await?;
    let mut watch = [
        PgConnection::connect(&url).await?,
        PgConnection::connect(&url).await?,
    ];
    // Holds the producer up between its look at the limit and its commit.
    let mut rival = sql.begin().await?;
    sqlx::query(
        "INSERT INTO batches (id, llm_id, metric_id, source, batch_at, data_points, checksum)
         SELECT $1, llm_id, metric_id, source, batch_at, data_points, checksum FROM batches LIMIT 1",
    )
    .bind(late.id().as_uuid())
    .execute(&mut *rival)
    .await?;
    let [first, second] = &mut watch;
    let recorded = async { Ok::<_, BoxError>(storage.record(std::slice::from_ref(late)).await?) };
    let pruned = async {
        sessions_wait(first, 1).await;
        Ok(storage.prune(DAY, Hour(hour.0 + 3).start() + DAY, 100).await?)
    };
    let released = async {
        sessions_wait(second, 2).await;
        rival.rollback().await?;
        Ok(())
    };
    let (recorded, pruned, ()) = try_join3(recorded, pruned, released).await?;
    assert_eq!(recorded, [Recorded::Stored]);
    assert_eq!((pruned.retained_from, pruned.held_back_hours), (hour, 3));
    assert_eq!(
        storage.apply(std::slice::from_ref(late)).await?,
        [Applied::Counted]
    );
    Ok(())
}

#[tokio::test]
async fn a_mark_from_the_future_is_taken_back() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..2)?;
    let is_mark = async |sql: &mut PgConnection, mark: &'static str| {
        sqlx::query_scalar::<_, bool>(AssertSqlSafe(format!(
            "SELECT complete_until {mark} FROM reconciliation"
        )))
        .fetch_one(sql)
        .await
    };
    storage.requeue_uncounted(MINUTE, 10).await?;
    assert!(is_mark(&mut sql, "= '-infinity'").await?, "nothing is stored");
    for future in [
        "UPDATE reconciliation SET complete_until = now() + interval '400 days'",
        "UPDATE reconciliation SET complete_until = 'infinity'",
    ] {
        execute(&mut sql, future).await?;
        storage.requeue_uncounted(MINUTE, 10).await?;
        assert!(is_mark(&mut sql, "<= now() - interval '2 minutes'").await?);
    }
    storage.record(&batches).await?;
    storage
        .mark_published(&[batches[0].id(), batches[1].id()])
        .await?;
    assert_eq!(storage.requeue_uncounted(NOW, 10).await?.uncounted, 2);
    Ok(())
}

/// Statistics that were dumped and restored into another server have transaction ids that this one has yet to come to.
#[tokio::test]
async fn restored_statistics_are_rebuilt_like_any_other() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..800)?;
    storage.apply(&batches[..700]).await?;
    execute(&mut sql, "UPDATE statistics SET revision = '1000000000000'").await?;
    storage.apply(&batches[700..]).await?;
    for _ in 0..2 {
        let rebuilt = storage.rebuild(&|_, _| {}).await?;
        assert_eq!((rebuilt.batches, rebuilt.changed), (800, 0));
        let audit = storage.audit(None, 10_000).await?;
        assert_eq!((audit.batches, audit.mismatches), (800, Vec::new()));
    }
    Ok(())
}

/// Does something in the middle of a rebuild, on its thread.
fn in_the_middle<T>(work: impl Future<Output = Result<T, BoxError>>) -> T {
    let done = tokio::task::block_in_place(|| Handle::current().block_on(work));
    done.expect("it works in the middle of a rebuild")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_has_not_folded_every_batch_once_changes_nothing() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    storage.apply(&batches(0..20)?).await?;
    execute(&mut sql, "CREATE TABLE hidden AS SELECT * FROM ledger").await?;
    let before = storage.statistics_since(None, Hour(0)).await?;
    let sql = Mutex::new(sql);
    // Behind the back of the rebuild, which has counted them.
    let refused = storage
        .rebuild(&|_, _| {
            in_the_middle(async { execute(&mut *sql.lock().await, "DELETE FROM ledger").await });
        })
        .await;
    assert!(matches!(refused, Err(StorageError::Fault { .. })), "{refused:?}");
    assert_eq!(storage.statistics_since(None, Hour(0)).await?.rows, before.rows);
    execute(&mut *sql.lock().await, "INSERT INTO ledger SELECT * FROM hidden").await?;
    assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 0, "the lock is free");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_refuses_consumers_at_once_and_nobody_else() -> Outcome {
    let (storage, _) = prepared().await?;
    let (counted, late) = (batches(0..100)?, batches(100..110)?);
    storage.apply(&counted).await?;
    let before = storage.statistics_since(None, Hour(0)).await?;
    let refusals = AtomicU32::new(0);
    let report = storage
        .rebuild(&|_, _| {
            in_the_middle(async {
                let refused = storage.apply(&late).await;
                assert!(matches!(refused, Err(StorageError::Rebuilding)), "{refused:?}");
                assert!(storage.is_rebuilding().await?);
                storage.record(&late).await?;
                let pruned = storage.prune(NOW, late[0].timestamp(), 10).await?;
                assert!(pruned.more && pruned.batches == 0);
                let seen = storage.statistics_since(None, Hour(0)).await?;
                assert_eq!(seen.rows, before.rows);
                refusals.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
        })
        .await?;
    assert!(refusals.into_inner() > 1);
    assert_eq!((report.batches, report.changed), (100, 0));
    assert!(!storage.is_rebuilding().await?);
    assert_eq!(storage.apply(&late).await?, vec![Applied::Counted; 10]);
    Ok(())
}

/// A database of the first release, with what it has counted.
#[tokio::test]
async fn what_the_first_release_counted_is_rebuilt_like_the_rest() -> Outcome {
    let url = empty_database().await?;
    let mut sql = PgConnection::connect(&url).await?;
    let all = Migrator::new(std::path::Path::new("../../migrations/postgres")).await?;
    let first = all.iter().take(1).cloned().collect();
    Migrator::with_migrations(first).run(&mut sql).await?;
    for statement in [
        "INSERT INTO llms (name, creator, created_at, updated_at) VALUES ('one', 'x', now(), now())",
        "INSERT INTO metrics (title, unit, lower_bound, upper_bound, better, created_at, updated_at)
         VALUES ('ttft', 's', 0, 1, 'lower', now(), now())",
        "INSERT INTO batches (id, llm_id, metric_id, source, batch_at, data_points, checksum)
         SELECT gen_random_uuid(), 1, 1, 'simulated', '2025-01-01', '{0.5}', sha256('') FROM generate_series(1, 20)",
        "INSERT INTO ledger (batch_id) SELECT id FROM batches",
    ] {
        execute(&mut sql, statement).await?;
    }
    let storage = connect(&url)?;
    assert!(storage.migrate().await? > 0);
    let rebuilt = storage.rebuild(&|_, _| {}).await?;
    assert_eq!((rebuilt.batches, rebuilt.rows, rebuilt.changed), (20, 2, 2));
    assert_eq!(storage.audit(None, 100).await?.mismatches, []);
    assert_eq!(
        storage
            .prune(Duration::ZERO, DateTime::UNIX_EPOCH, 100)
            .await?
            .batches,
        0
    );
    assert_eq!(storage.requeue_uncounted(NOW, 100).await?, Requeued::default());
    Ok(())
}
