use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::SqliteConnection;
use storage::{Audit, Hour, LONGEST_REQUEUE_DELAY, Pruned, Reconciliation, Requeued, Result, SLOWEST_RECORD};
use storage_sql::SqlError;

use crate::{SqliteStorage, time_columns::to_column};

#[async_trait]
impl Reconciliation for SqliteStorage {
    async fn requeue_uncounted(&self, grace: Duration, limit: u32) -> Result<Requeued> {
        self.run("requeue uncounted batches", async || {
            let mut transaction = self.begin().await?;
            let requeued = requeue(&mut transaction, self.now(), grace, limit).await?;
            let uncounted: i64 = sqlx::query_scalar("SELECT count(*) FROM uncounted")
                .fetch_one(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(Requeued {
                uncounted: uncounted.cast_unsigned(),
                requeued,
            })
        })
        .await
    }

    async fn audit(&self, from: Option<Hour>, batches: u64) -> Result<Audit> {
        self.run("audit statistics", || self.audit_once(from, batches))
            .await
    }

    async fn prune(&self, keep: Duration, now: DateTime<Utc>, limit: u32) -> Result<Pruned> {
        self.run("prune batches", || self.prune_once(keep, now, limit))
            .await
    }
}

/// What was recorded since the last call is overdue if it is not counted; what was requeued before is due again after its
/// delay. Everything that is chosen enters `uncounted`, so the next call starts behind it; but not behind what was not
/// chosen, what waits in the outbox, and what a clock that is set back may date earlier, and never far beyond the newest
/// batch.
async fn requeue(
    connection: &mut SqliteConnection,
    now: DateTime<Utc>,
    grace: Duration,
    limit: u32,
) -> std::result::Result<u64, SqlError> {
    // A mark in the future, from a clock that was wrong, would hide what is stored until then.
    let latest = to_column(now).saturating_sub(micros(grace.max(SLOWEST_RECORD)));
    sqlx::query("UPDATE reconciliation SET complete_until = $1 WHERE complete_until > $2")
        .bind(latest)
        .bind(to_column(now))
        .execute(&mut *connection)
        .await?;
    for statement in [
        "DELETE FROM uncounted WHERE batch_id IN (SELECT batch_id FROM ledger)",
        // What is left of batches that an operator has deleted, with a program that does not check references.
        "DELETE FROM uncounted WHERE NOT EXISTS (SELECT 1 FROM batches WHERE id = batch_id)",
        "DELETE FROM outbox WHERE batch_id IN (
             SELECT batch_id FROM (SELECT batch_id FROM outbox ORDER BY recorded_at, batch_id LIMIT 1000) AS oldest
             WHERE NOT EXISTS (SELECT 1 FROM batches WHERE id = oldest.batch_id))",
        "CREATE TEMPORARY TABLE IF NOT EXISTS overdue (id BLOB PRIMARY KEY, recorded_at INTEGER, is_new INTEGER)",
        "DELETE FROM overdue",
    ] {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    sqlx::query(FIND_OVERDUE)
        .bind(to_column(now))
        .bind(micros(grace))
        .bind(micros(LONGEST_REQUEUE_DELAY))
        .bind(i64::from(limit))
        .execute(&mut *connection)
        .await?;
    // Before anything is chosen: the rows that are queued below are younger than what they stand for.
    sqlx::query(REMEMBER)
        .bind(latest)
        .bind(i64::from(limit))
        .bind(micros(SLOWEST_RECORD))
        .execute(&mut *connection)
        .await?;
    let queued = sqlx::query(
        "INSERT INTO outbox (batch_id, recorded_at)
         SELECT id, $1 FROM overdue ORDER BY recorded_at, id LIMIT $2",
    )
    .bind(to_column(now))
    .bind(i64::from(limit))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO uncounted (batch_id, attempts, requeued_at)
         SELECT id, 1, $1 FROM (SELECT id FROM overdue ORDER BY recorded_at, id LIMIT $2) WHERE true
         ON CONFLICT (batch_id) DO UPDATE SET attempts = min(attempts + 1, 30), requeued_at = excluded.requeued_at",
    )
    .bind(to_column(now))
    .bind(i64::from(limit))
    .execute(&mut *connection)
    .await?;
    Ok(queued.rows_affected())
}

const FIND_OVERDUE: &str = "
    INSERT INTO overdue (id, recorded_at, is_new)
    SELECT * FROM (
        SELECT b.id, b.recorded_at, 1
        FROM batches b
        WHERE b.recorded_at >= (SELECT complete_until FROM reconciliation) AND b.recorded_at <= $1 - $2
          AND coalesce(b.batch_at >= (SELECT retained_from FROM retention), true)
          AND NOT EXISTS (SELECT 1 FROM ledger l WHERE l.batch_id = b.id)
          AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.batch_id = b.id)
          AND NOT EXISTS (SELECT 1 FROM uncounted u WHERE u.batch_id = b.id)
        ORDER BY b.recorded_at, b.id
        LIMIT $4
    )
    UNION ALL
    SELECT * FROM (
        SELECT b.id, b.recorded_at, 0
        FROM uncounted u JOIN batches b ON b.id = u.batch_id
        WHERE u.requeued_at <= $1 - min(1.0 * $2 * (1 << (u.attempts - 1)), $3)
          AND coalesce(b.batch_at >= (SELECT retained_from FROM retention), true)
          AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.batch_id = b.id)
        ORDER BY b.recorded_at, b.id
        LIMIT $4
    )";

/// `min` and `max` of several values are NULL where one of them is.
const REMEMBER: &str = "
    UPDATE reconciliation SET complete_until = max(complete_until, min(
        $1,
        coalesce((SELECT max(recorded_at) FROM batches) - $3, complete_until),
        coalesce((SELECT min(recorded_at) FROM outbox), $1),
        coalesce((SELECT min(recorded_at) FROM (
            SELECT recorded_at, is_new FROM overdue ORDER BY recorded_at, id LIMIT -1 OFFSET $2
        ) WHERE is_new), $1),
        coalesce((SELECT max(recorded_at) FROM overdue WHERE is_new HAVING count(*) = $2), $1)
    ))";

fn micros(duration: Duration) -> i64 {
    TimeDelta::from_std(duration)
        .ok()
        .and_then(|delta| delta.num_microseconds())
        .unwrap_or(i64::MAX / 2)
}
