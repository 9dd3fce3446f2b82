use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use storage::{Audit, Hour, LONGEST_REQUEUE_DELAY, Pruned, Reconciliation, Requeued, Result, SLOWEST_RECORD};
use storage_sql::SqlError;

use crate::{
    PostgresStorage,
    connection::in_time,
    retention::{LONGEST_PRUNING, allow_long_statements},
};

#[async_trait]
impl Reconciliation for PostgresStorage {
    async fn requeue_uncounted(&self, grace: Duration, limit: u32) -> Result<Requeued> {
        self.retrying_without_deadline("requeue uncounted batches", || {
            Box::pin(self.requeue_once(grace, limit))
        })
        .await
    }

    async fn audit(&self, from: Option<Hour>, batches: u64) -> Result<Audit> {
        self.retrying_without_deadline("audit statistics", || Box::pin(self.audit_once(from, batches)))
            .await
    }

    async fn prune(&self, keep: Duration, now: DateTime<Utc>, limit: u32) -> Result<Pruned> {
        self.retrying_without_deadline("prune batches", || {
            in_time(LONGEST_PRUNING, self.prune_once(keep, now, limit))
        })
        .await
    }
}

impl PostgresStorage {
    async fn requeue_once(&self, grace: Duration, limit: u32) -> std::result::Result<Requeued, SqlError> {
        let usual = self.settings.longest_operation();
        let (mut transaction, mark) = in_time(usual, async {
            let mut transaction = self.begin().await?;
            let mark = take_mark(&mut transaction, grace).await?;
            Ok((transaction, mark))
        })
        .await?;
        // The first search, or one after a long absence, reads much of the history.
        let is_long = mark.as_ref().is_some_and(|mark| mark.is_old);
        let deadline = if is_long { LONGEST_PRUNING } else { usual };
        in_time(deadline, async {
            let mut requeued = 0;
            if let Some(mark) = mark {
                for statement in CLEAN_UP {
                    sqlx::query(statement).execute(&mut *transaction).await?;
                }
                if mark.is_old {
                    allow_long_statements(&mut transaction).await?;
                }
                requeued = requeue(&mut transaction, &mark.complete_until, grace, limit).await?;
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
        })
        .await
    }
}

/// How far the calls before this one have looked.
struct Mark {
    /// As text: it may be infinite.
    complete_until: String,
    is_old: bool,
}

/// `None` where somebody else has it. In a statement of its own, so that the next one sees what the one before us has
/// done. A mark in the future, from a clock that was wrong, would hide what is stored until then.
async fn take_mark(
    connection: &mut PgConnection,
    grace: Duration,
) -> std::result::Result<Option<Mark>, SqlError> {
    let mark: Option<(String, bool)> = sqlx::query_as(
        "SELECT (CASE WHEN complete_until > now() THEN now() - make_interval(secs => greatest($1, $2))
                      ELSE complete_until END)::text AS complete_until,
                complete_until < now() - interval '1 day' AS is_old
         FROM reconciliation FOR UPDATE SKIP LOCKED",
    )
    .bind(grace.as_secs_f64())
    .bind(SLOWEST_RECORD.as_secs_f64())
    .fetch_optional(connection)
    .await?;
    Ok(mark.map(|(complete_until, is_old)| Mark {
        complete_until,
        is_old,
    }))
}

/// What is counted by now, and what is left of batches that an operator has deleted; of the
/// outbox, whose oldest rows these become, a limited number.
const CLEAN_UP: [&str; 3] = [
    "DELETE FROM uncounted u USING ledger l WHERE l.batch_id = u.batch_id",
    "DELETE FROM uncounted u WHERE NOT EXISTS (SELECT FROM batches b WHERE b.id = u.batch_id)",
    "DELETE FROM outbox WHERE batch_id IN (
         SELECT batch_id FROM (SELECT batch_id FROM outbox ORDER BY recorded_at, batch_id LIMIT 1000) oldest
         WHERE NOT EXISTS (SELECT FROM batches b WHERE b.id = oldest.batch_id))",
];

/// One statement, hence one snapshot: a batch that leaves the outbox meanwhile is in it for all parts, or for none.
///
/// What was recorded since the last call is `overdue` if it is not counted; what was requeued before is due `again` after
/// its delay. `coalesce` around a comparison with the limit of what is kept hides it from the planner, which would walk the
/// whole history along the index of `batch_at`. Everything that is chosen enters `uncounted`, so the next call starts behind it; but not behind what was
/// not chosen, what waits in the outbox, and what may be committed late, and never far beyond the newest batch, whatever
/// the clock says.
const REQUEUE: &str = "
    WITH overdue AS MATERIALIZED (
        SELECT b.id, b.recorded_at
        FROM batches b
        WHERE b.recorded_at >= $5::text::timestamptz
          AND b.recorded_at <= now() - make_interval(secs => $1)
          AND coalesce(b.batch_at >= (SELECT retained_from FROM retention), true)
          AND NOT EXISTS (SELECT FROM ledger l WHERE l.batch_id = b.id)
          AND NOT EXISTS (SELECT FROM outbox o WHERE o.batch_id = b.id)
          AND NOT EXISTS (SELECT FROM uncounted u WHERE u.batch_id = b.id)
        ORDER BY b.recorded_at, b.id
        LIMIT $2
    ), again AS MATERIALIZED (
        SELECT b.id, b.recorded_at
        FROM uncounted u JOIN batches b ON b.id = u.batch_id
        WHERE u.requeued_at <= now() - make_interval(secs => least($1 * power(2, u.attempts - 1), $3))
          AND coalesce(b.batch_at >= (SELECT retained_from FROM retention), true)
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
        UPDATE reconciliation SET complete_until = greatest($5::text::timestamptz, least(
            now() - make_interval(secs => greatest($1, $4)),
            coalesce((SELECT max(recorded_at) FROM batches WHERE recorded_at >= $5::text::timestamptz)
                     - make_interval(secs => $4), '-infinity'),
            (SELECT min(recorded_at) FROM outbox),
            (SELECT min(recorded_at) FROM overdue WHERE id NOT IN (SELECT id FROM chosen)),
            (SELECT max(recorded_at) FROM overdue HAVING count(*) = $2)
        ))
    )
    SELECT count(*) FROM queued";

async fn requeue(
    connection: &mut PgConnection,
    complete_until: &str,
    grace: Duration,
    limit: u32,
) -> std::result::Result<u64, SqlError> {
    let requeued: i64 = sqlx::query_scalar(REQUEUE)
        // Planned each time: which index is best depends on how much there is behind the mark.
        .persistent(false)
        .bind(grace.as_secs_f64())
        .bind(i64::from(limit))
        .bind(LONGEST_REQUEUE_DELAY.as_secs_f64())
        .bind(SLOWEST_RECORD.as_secs_f64())
        .bind(complete_until)
        .fetch_one(connection)
        .await?;
    Ok(requeued.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use shared_types::RegistrySeed;
    use sqlx::AssertSqlSafe;
    use storage::{BoxError, Maintenance, Outbox, Registry};
    use storage_conformance::samples::batches;
    use test_servers::shared_postgres;

    use super::*;
    use crate::PostgresSettings;

    #[tokio::test]
    async fn the_search_does_not_depend_on_the_history() -> std::result::Result<(), BoxError> {
        let url = shared_postgres().await.create_database().await?;
        let storage = PostgresStorage::connect(PostgresSettings::from_url(&url)?);
        storage.migrate().await?;
        storage
            .seed(&RegistrySeed::standard()?, DateTime::UNIX_EPOCH)
            .await?;
        storage.record(&batches(0..1)?).await?;
        sqlx::query(
            "INSERT INTO batches (id, llm_id, metric_id, source, batch_at, data_points, checksum, recorded_at)
             SELECT gen_random_uuid(), llm_id, metric_id, source, batch_at, '{1}', checksum, now() - hours * interval '1 hour'
             FROM batches, generate_series(20000, 1, -1) AS given (hours)",
        )
        .execute(&storage.pool)
        .await?;
        for statistics in [false, true] {
            if statistics {
                sqlx::query("ANALYZE").execute(&storage.pool).await?;
            }
            let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN {REQUEUE}")))
                .persistent(false)
                .bind(60.0)
                .bind(100_i64)
                .bind(LONGEST_REQUEUE_DELAY.as_secs_f64())
                .bind(SLOWEST_RECORD.as_secs_f64())
                .bind("yesterday")
                .fetch_all(&storage.pool)
                .await?;
            let plan = plan.join("\n");
            assert!(plan.contains("batches_recorded_at"), "{plan}");
            assert!(!plan.contains("batches_newest_first"), "{plan}");
        }
        Ok(())
    }
}
