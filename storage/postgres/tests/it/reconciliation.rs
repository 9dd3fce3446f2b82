//! What reconciliation and retention do with rows that no port can make: tampered with, backdated, or in a race.

use std::time::Duration;

use chrono::DateTime;
use futures::future::{try_join, try_join3};
use shared_types::{BatchId, MetricBatch};
use sqlx::{AssertSqlSafe, Connection, PgConnection, migrate::Migrator};
use storage::{
    Applied, BoxError, Hour, Maintenance, Outbox, Period, Projection, Reconciliation, Recorded, Refusal,
    Requeued, StorageError, conformance::samples::batches,
};
use storage_postgres::PostgresStorage;

use crate::{
    RETENTION, connect, empty_database,
    schema::{prepared, prepared_at},
    sessions_wait,
};

type Outcome = Result<(), BoxError>;

const NOW: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn ids(batches: &[MetricBatch]) -> Vec<BatchId> {
    batches.iter().map(MetricBatch::id).collect()
}

async fn execute(sql: &mut PgConnection, statement: &'static str) -> Result<u64, BoxError> {
    Ok(sqlx::query(statement).execute(sql).await?.rows_affected())
}

/// Stored a day ago and lost by the broker since.
async fn lost(storage: &PostgresStorage, sql: &mut PgConnection, batches: &[MetricBatch]) -> Outcome {
    storage.record(batches).await?;
    storage.mark_published(&ids(batches)).await?;
    execute(sql, "UPDATE batches SET recorded_at = now() - interval '1 day'").await?;
    Ok(())
}

fn found(uncounted: u64, requeued: u64) -> Requeued {
    Requeued { uncounted, requeued }
}

#[tokio::test]
async fn an_audit_names_what_was_tampered_with() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    storage.apply(&batches(0..50)?).await?;
    for tampering in [
        "UPDATE statistics SET state = 'broken' WHERE (llm_id, metric_id, source, period) =
         (SELECT llm_id, metric_id, source, period FROM statistics ORDER BY 1, 2, 3, 4 LIMIT 1)",
        "DELETE FROM statistics WHERE (llm_id, metric_id, source, period) =
         (SELECT llm_id, metric_id, source, period FROM statistics ORDER BY 1 DESC, 2 DESC, 3 DESC, 4 DESC LIMIT 1)",
        "INSERT INTO statistics (llm_id, metric_id, source, period, state, n)
         SELECT llm_id, metric_id, source, 7, state, n FROM statistics
         ORDER BY llm_id DESC, metric_id DESC, source DESC, period DESC LIMIT 1",
    ] {
        assert_eq!(execute(&mut sql, tampering).await?, 1);
    }
    let audit = storage.audit(None, 1000).await?;
    assert_eq!((audit.batches, audit.next), (50, None));
    let periods: Vec<Period> = audit.mismatches.iter().map(|row| row.period).collect();
    let last_hour = periods.last().copied();
    assert!(
        matches!(last_hour, Some(Period::Hour(hour)) if hour > Hour(7)),
        "{periods:?}"
    );
    // The all-time row of the first key; of the last key also, which is no longer the merge of its hours.
    assert_eq!(
        periods[..3],
        [Period::AllTime, Period::AllTime, Period::Hour(Hour(7))]
    );
    assert_eq!(periods.len(), 4);
    assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 3);
    assert_eq!(storage.audit(None, 1000).await?.mismatches, []);
    Ok(())
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_does_not_hold_up_its_neighbours() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..3)?;
    storage.record(&batches).await?;
    sqlx::query("UPDATE batches SET data_points[1] = data_points[1] + 1 WHERE id = $1")
        .bind(batches[1].id().as_uuid())
        .execute(&mut sql)
        .await?;
    let readable = [batches[0].clone(), batches[2].clone()];
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
        sessions_wait(&mut watch, 1).await?;
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
        sessions_wait(first, 1).await?;
        Ok(storage.prune(DAY, Hour(hour.0 + 3).start() + DAY, 100).await?)
    };
    let released = async {
        sessions_wait(second, 2).await?;
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

/// Put there behind the back of the retention.
#[tokio::test]
async fn a_batch_that_was_recorded_too_late_is_never_counted_and_never_requeued() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..2)?;
    lost(&storage, &mut sql, &batches).await?;
    execute(
        &mut sql,
        "UPDATE retention SET retained_from = '2100-01-01T00:00:00Z'",
    )
    .await?;
    assert_eq!(storage.record(&batches).await?, vec![Recorded::AlreadyStored; 2]);
    let applied = storage.apply(&batches).await?;
    let too_old = |outcome: &Applied| matches!(outcome, Applied::Refused(Refusal::TooOld { .. }));
    assert!(applied.iter().all(too_old), "{applied:?}");
    assert_eq!(storage.requeue_uncounted(NOW, 10).await?, found(0, 0));
    Ok(())
}

#[tokio::test]
async fn the_wait_before_a_batch_is_requeued_again_doubles_up_to_a_day() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..1)?;
    lost(&storage, &mut sql, &batches).await?;
    assert_eq!(storage.requeue_uncounted(MINUTE, 10).await?, found(1, 1));
    for minutes in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440] {
        storage.mark_published(&ids(&batches)).await?;
        for (seconds, requeued) in [(minutes * 60 - 10, 0), (minutes * 60 + 1, 1)] {
            sqlx::query("UPDATE uncounted SET requeued_at = now() - make_interval(secs => $1)")
                .bind(f64::from(seconds))
                .execute(&mut sql)
                .await?;
            let now = storage.requeue_uncounted(MINUTE, 10).await?;
            assert_eq!(now, found(1, requeued), "after {seconds} s");
        }
    }
    Ok(())
}

/// What is behind the mark is not looked at again, so nothing that may still be requeued may be behind it.
#[tokio::test]
async fn the_reconciler_remembers_how_far_it_has_looked() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..7)?;
    let (batches, newest) = batches.split_at(6);
    lost(&storage, &mut sql, batches).await?;
    // Nothing is claimed to be seen that is not long before the newest one.
    storage.apply(newest).await?;
    execute(
        &mut sql,
        "UPDATE batches SET recorded_at = now() - interval '1 minute' WHERE id IN
                       (SELECT batch_id FROM ledger)",
    )
    .await?;
    storage.apply(&batches[..2]).await?;
    // One waits in the outbox since it was recorded.
    sqlx::query("INSERT INTO outbox SELECT id, recorded_at - interval '1 hour' FROM batches WHERE id = $1")
        .bind(batches[2].id().as_uuid())
        .execute(&mut sql)
        .await?;
    execute(
        &mut sql,
        "UPDATE batches SET recorded_at = o.recorded_at FROM outbox o WHERE id = o.batch_id",
    )
    .await?;
    let behind =
        "SELECT count(*) FROM batches WHERE recorded_at < (SELECT complete_until FROM reconciliation)";
    for (limit, uncounted, requeued, seen) in [(2, 2, 2, 0), (10, 3, 1, 0)] {
        assert_eq!(
            storage.requeue_uncounted(MINUTE, limit).await?,
            found(uncounted, requeued)
        );
        let now: i64 = sqlx::query_scalar(behind).fetch_one(&mut sql).await?;
        assert_eq!(now, seen, "one waits in the outbox");
    }
    storage.mark_published(&ids(batches)).await?;
    assert_eq!(storage.requeue_uncounted(MINUTE, 10).await?, found(4, 1));
    execute(&mut sql, "DELETE FROM outbox").await?;
    assert_eq!(storage.requeue_uncounted(MINUTE, 10).await?, found(4, 0));
    let now: i64 = sqlx::query_scalar(behind).fetch_one(&mut sql).await?;
    assert_eq!(now, 6);
    // What is young may have been committed behind a mark that is younger.
    let young: bool =
        sqlx::query_scalar("SELECT complete_until <= now() - interval '2 minutes' FROM reconciliation")
            .fetch_one(&mut sql)
            .await?;
    assert!(young);
    Ok(())
}

async fn complete_until(sql: &mut PgConnection, condition: &'static str) -> Result<bool, BoxError> {
    Ok(sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT complete_until {condition} FROM reconciliation"
    )))
    .fetch_one(sql)
    .await?)
}

/// A clock that ran ahead must not hide what is stored once it is right again.
#[tokio::test]
async fn the_mark_is_never_beyond_the_newest_batch_and_comes_back_from_the_future() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..4)?;
    assert_eq!(storage.requeue_uncounted(MINUTE, 10).await?, found(0, 0));
    assert!(
        complete_until(&mut sql, "= '-infinity'").await?,
        "nothing is stored"
    );
    lost(&storage, &mut sql, &batches[..2]).await?;
    assert_eq!(storage.requeue_uncounted(MINUTE, 10).await?, found(2, 2));
    let newest = "= (SELECT max(recorded_at) FROM batches) - interval '2 minutes'";
    storage.mark_published(&ids(&batches)).await?;
    assert_eq!(storage.requeue_uncounted(HOUR, 10).await?, found(2, 0));
    assert!(complete_until(&mut sql, newest).await?);

    for future in [
        "UPDATE reconciliation SET complete_until = now() + interval '400 days'",
        "UPDATE reconciliation SET complete_until = 'infinity'",
    ] {
        execute(&mut sql, future).await?;
        storage.requeue_uncounted(MINUTE, 10).await?;
        assert!(complete_until(&mut sql, "<= now() - interval '2 minutes'").await?);
    }
    storage.record(&batches[2..]).await?;
    storage.mark_published(&ids(&batches)).await?;
    assert_eq!(storage.requeue_uncounted(NOW, 10).await?.uncounted, 4);
    Ok(())
}

#[tokio::test]
async fn batches_that_an_operator_deletes_leave_nothing_behind() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..4)?;
    lost(&storage, &mut sql, &batches[..2]).await?;
    assert_eq!(storage.requeue_uncounted(MINUTE, 10).await?, found(2, 2));
    storage.record(&batches[2..]).await?;
    execute(&mut sql, "DELETE FROM batches").await?;
    assert_eq!(storage.outbox_depth().await?.unpublished, 4);
    assert_eq!(storage.requeue_uncounted(MINUTE, 10).await?, found(0, 0));
    assert_eq!(storage.outbox_depth().await?.unpublished, 0);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM uncounted")
        .fetch_one(&mut sql)
        .await?;
    assert_eq!(left, 0);
    Ok(())
}

/// A ledger that was dumped and restored into another server has transaction ids that this one has yet to come to.
#[tokio::test]
async fn a_restored_ledger_is_rebuilt_like_any_other() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..800)?;
    storage.apply(&batches[..700]).await?;
    execute(
        &mut sql,
        "UPDATE ledger SET counted_in = counted_in + 1000000000000",
    )
    .await?;
    storage.apply(&batches[700..]).await?;
    for _ in 0..2 {
        let rebuilt = storage.rebuild(&|_, _| {}).await?;
        assert_eq!((rebuilt.batches, rebuilt.changed), (800, 0));
        let audit = storage.audit(None, 10_000).await?;
        assert_eq!((audit.batches, audit.mismatches), (800, Vec::new()));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_has_not_folded_every_batch_once_changes_nothing() -> Outcome {
    let (storage, sql) = prepared().await?;
    storage.apply(&batches(0..20)?).await?;
    let before = storage.statistics_since(None, Hour(0)).await?;
    let sql = tokio::sync::Mutex::new(sql);
    // Behind the back of the rebuild that has begun.
    let refused = storage
        .rebuild(&|_, _| {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    let far = "UPDATE ledger SET counted_in = 1000000000000";
                    execute(&mut *sql.lock().await, far).await.unwrap();
                });
            });
        })
        .await;
    assert!(matches!(refused, Err(StorageError::Fault { .. })), "{refused:?}");
    assert_eq!(storage.statistics_since(None, Hour(0)).await?.rows, before.rows);
    assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 0, "the lock is free");
    Ok(())
}

/// A database of the first release, with what it has counted.
#[tokio::test]
async fn what_was_counted_before_the_ledger_knew_when_is_rebuilt_like_the_rest() -> Outcome {
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
    assert_eq!(storage.requeue_uncounted(NOW, 100).await?, found(0, 0));
    Ok(())
}
