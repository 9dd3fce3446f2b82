use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;
use storage::{Audit, Hour, LONGEST_REQUEUE_DELAY, Pruned, Reconciliation, Requeued, Result, SLOWEST_RECORD};

use crate::{PostgresStorage, connection::in_time, fault::SqlError, retention::LONGEST_PRUNING};

#[async_trait]
impl Reconciliation for PostgresStorage {
    async fn requeue_uncounted(&self, grace: Duration, limit: u32) -> Result<Requeued> {
        self.retrying("requeue uncounted batches", || self.requeue_once(grace, limit))
            .await
    }

    async fn audit(&self, from: Option<Hour>, batches: u64) -> Result<Audit> {
        self.retrying_without_deadline("audit statistics", || Box::pin(self.audit_once(from, batches)))
            .await
    }

    async fn prune(&self, before: Hour, limit: u32) -> Result<Pruned> {
        self.retrying_without_deadline("prune batches", || {
            in_time(LONGEST_PRUNING, self.prune_once(before, limit))
        })
        .await
    }
}

impl PostgresStorage {
    async fn requeue_once(&self, grace: Duration, limit: u32) -> std::result::Result<Requeued, SqlError> {
        let mut transaction = self.begin().await?;
        // In a statement of its own, so that the next one sees what the one before us has done.
        let turn = sqlx::query("SELECT FROM reconciliation FOR UPDATE SKIP LOCKED")
            .fetch_optional(&mut *transaction)
            .await?;
        let mut requeued = 0;
        if turn.is_some() {
            sqlx::query("DELETE FROM uncounted u USING ledger l WHERE l.batch_id = u.batch_id")
                .execute(&mut *transaction)
                .await?;
            requeued = requeue(&mut transaction, grace, limit).await?;
        }
        let uncounted: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM uncounted u
             WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.batch_id = u.batch_id)",
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Requeued {
            uncounted: uncounted.cast_unsigned(),
            requeued,
        })
    }
}

/// One statement, hence one snapshot: a batch that leaves the outbox meanwhile is in it for all parts, or for none.
///
/// What was recorded since the last call is `overdue` if it is not counted; what was requeued before is due `again` after
/// its delay. Everything that is chosen enters `uncounted`, so the next call starts behind it; but not behind what was
/// not chosen, what waits in the outbox, and what may be committed late.
const REQUEUE: &str = "
    WITH overdue AS MATERIALIZED (
        SELECT b.id, b.recorded_at
        FROM batches b
        WHERE b.recorded_at >= (SELECT complete_until FROM reconciliation)
          AND b.recorded_at <= now() - make_interval(secs => $1)
          AND b.batch_at >= coalesce((SELECT retained_from FROM retention), '-infinity')
          AND NOT EXISTS (SELECT FROM ledger l WHERE l.batch_id = b.id)
          AND NOT EXISTS (SELECT FROM outbox o WHERE o.batch_id = b.id)
          AND NOT EXISTS (SELECT FROM uncounted u WHERE u.batch_id = b.id)
        ORDER BY b.recorded_at, b.id
        LIMIT $2
    ), again AS MATERIALIZED (
        SELECT b.id, b.recorded_at
        FROM uncounted u JOIN batches b ON b.id = u.batch_id
        WHERE u.requeued_at <= now() - make_interval(secs => least($1 * power(2, u.attempts - 1), $3))
          AND b.batch_at >= coalesce((SELECT retained_from FROM retention), '-infinity')
          AND NOT EXISTS (SELECT FROM ledger l WHERE l.batch_id = b.id)
          AND NOT EXISTS (SELECT FROM outbox o WHERE o.batch_id = b.id)
        ORDER BY b.recorded_at, b.id
        LIMIT $2
    ), chosen AS MATERIALIZED (
        SELECT id FROM (TABLE overdue UNION ALL TABLE again) due ORDER BY recorded_at, id LIMIT $2
    ), queued AS (
        INSERT INTO outbox (batch_id) SELECT id FROM chosen ON CONFLICT (batch_id) DO NOTHING RETURNING batch_id
    ), noted AS (
        INSERT INTO uncounted (batch_id, attempts, requeued_at)
        SELECT id, 1, now() FROM chosen
        ON CONFLICT (batch_id) DO UPDATE SET attempts = least(uncounted.attempts + 1, 30), requeued_at = now()
    ), seen AS (
        UPDATE reconciliation SET complete_until = greatest(complete_until, least(
            now() - make_interval(secs => greatest($1, $4)),
            (SELECT min(recorded_at) FROM outbox),
            (SELECT min(recorded_at) FROM overdue WHERE id NOT IN (SELECT id FROM chosen)),
            (SELECT max(recorded_at) FROM overdue HAVING count(*) = $2)
        ))
    )
    SELECT count(*) FROM queued";

async fn requeue(
    connection: &mut PgConnection,
    grace: Duration,
    limit: u32,
) -> std::result::Result<u64, SqlError> {
    let requeued: i64 = sqlx::query_scalar(REQUEUE)
        .bind(grace.as_secs_f64())
        .bind(i64::from(limit))
        .bind(LONGEST_REQUEUE_DELAY.as_secs_f64())
        .bind(SLOWEST_RECORD.as_secs_f64())
        .fetch_one(connection)
        .await?;
    Ok(requeued.cast_unsigned())
}
