//! What is kept, and forgetting the rest.
//!
//! Why a batch is never counted twice: a batch's hour is part of its content, which its checksum covers. The limit is
//! raised before anything is deleted, and alone ([`RETENTION`]): whoever counts batches has committed before, so that the
//! ledger knows, or learns of the new limit. What is before the limit enters the ledger no more, so it does not matter
//! when it leaves it.
//!
//! Why no batch is stored and then never counted: whoever records batches has committed before, so that the search for
//! uncounted ones finds them, or learns of the new limit and stores nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use storage::{Hour, Pruned, SLOWEST_RECORD};
use storage_sql::{
    SqlError,
    columns::FIRST_HOUR,
    retention::{first_hour_kept, hours_held_back},
};

use crate::{
    PostgresStorage,
    advisory_locks::{MAINTENANCE, RETENTION, try_until_end_of_transaction},
    counted_batches::start_of,
};

/// The first search for uncounted batches looks at all that is to be deleted.
pub(crate) const LONGEST_PRUNING: Duration = Duration::from_secs(600);

impl PostgresStorage {
    pub(crate) async fn prune_once(
        &self,
        keep: Duration,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Pruned, SqlError> {
        let raised = self.raise(keep, now).await?;
        let deleted = match raised {
            Some(Raised { retained_from, .. }) => self.delete_before(retained_from, limit).await?,
            None => None,
        };
        match (raised, deleted) {
            (Some(raised), Some(Deleted { batches, more })) => Ok(Pruned {
                retained_from: raised.retained_from,
                batches,
                more,
                held_back_hours: raised.held_back_hours,
            }),
            // A rebuild, or another pruning.
            _ => Ok(Pruned {
                retained_from: retained_from(&mut *self.acquire().await?).await?,
                batches: 0,
                more: true,
                held_back_hours: 0,
            }),
        }
    }

    /// Raises the limit as far as it goes; gives what it is then. `None` where somebody else is at it.
    async fn raise(&self, keep: Duration, now: DateTime<Utc>) -> Result<Option<Raised>, SqlError> {
        let mut transaction = self.begin().await?;
        let raised = match try_until_end_of_transaction(&mut transaction, MAINTENANCE).await? {
            true => Some(raise(&mut transaction, keep, now).await?),
            false => None,
        };
        // Also where nothing has changed: a transaction that is dropped ends, and gives its locks back, some time later.
        transaction.commit().await?;
        Ok(raised)
    }

    /// `None` where somebody else is at it.
    async fn delete_before(&self, hour: Hour, limit: u32) -> Result<Option<Deleted>, SqlError> {
        let Some(before) = start_of(hour) else {
            return Ok(Some(Deleted::default()));
        };
        let mut transaction = self.begin().await?;
        if !try_until_end_of_transaction(&mut transaction, MAINTENANCE).await? {
            transaction.rollback().await?;
            return Ok(None);
        }
        // Whoever requeues uncounted batches has looked before they were counted, and must not queue them when they
        // are gone.
        sqlx::query("SELECT FROM reconciliation FOR UPDATE")
            .execute(&mut *transaction)
            .await?;
        let (batches, more): (i64, bool) = sqlx::query_as(
            "WITH old AS MATERIALIZED (
                 SELECT b.id, row_number() OVER (ORDER BY b.batch_at, b.id) AS position
                 FROM batches b JOIN ledger l ON l.batch_id = b.id
                 WHERE b.batch_at < $1
                 ORDER BY b.batch_at, b.id
                 LIMIT $2 + 1
             ), chosen AS MATERIALIZED (
                 SELECT id FROM old WHERE position <= $2
             ), unqueued AS (
                 DELETE FROM outbox WHERE batch_id IN (SELECT id FROM chosen)
             ), settled AS (
                 DELETE FROM uncounted WHERE batch_id IN (SELECT id FROM chosen)
             ), forgotten AS (
                 DELETE FROM ledger WHERE batch_id IN (SELECT id FROM chosen)
             ), deleted AS (
                 DELETE FROM batches WHERE id IN (SELECT id FROM chosen) RETURNING id
             )
             SELECT (SELECT count(*) FROM deleted), (SELECT count(*) FROM old) > $2",
        )
        .bind(before)
        .bind(i64::from(limit))
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some(Deleted {
            batches: batches.cast_unsigned(),
            more,
        }))
    }
}

/// Raises the limit to the first hour that is to be kept, or to that of the oldest stored batch that is not counted.
///
/// The search takes long the first time, so neither consumers nor producers are kept waiting for it: under the lock only
/// what was recorded since is searched.
async fn raise(
    connection: &mut PgConnection,
    keep: Duration,
    now: DateTime<Utc>,
) -> Result<Raised, SqlError> {
    allow_long_statements(connection).await?;
    let wanted = wanted(connection, keep, now).await?;
    let now = retained_from(connection).await?;
    let Some((before, until)) = wanted
        .filter(|before| *before > now)
        .and_then(|before| Some((before, start_of(before)?)))
    else {
        return Ok(Raised::to(now, now));
    };
    let oldest = oldest_uncounted(connection, now, until).await?;
    let limit = oldest.map_or(before, |oldest| oldest.min(before));
    if limit <= now {
        return Ok(Raised::to(now, before));
    }
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(RETENTION)
        .execute(&mut *connection)
        .await?;
    let oldest = oldest_recorded_lately(connection, now, limit.start()).await?;
    let limit = oldest.map_or(limit, |oldest| oldest.min(limit)).max(now);
    sqlx::query("UPDATE retention SET retained_from = greatest(retained_from, $1)")
        .bind(start_of(limit))
        .execute(connection)
        .await?;
    Ok(Raised::to(limit, before))
}

/// Until the end of the transaction.
pub(crate) async fn allow_long_statements(connection: &mut PgConnection) -> Result<(), SqlError> {
    sqlx::query("SELECT set_config('statement_timeout', $1, true)")
        .bind(format!("{}s", LONGEST_PRUNING.as_secs()))
        .execute(connection)
        .await?;
    Ok(())
}

/// The first hour to keep by the clocks there are. `recorded_at` has no index that is sorted, but one that narrows what is
/// read: the newest batch is looked for where it probably is, and in ever more of the table where it is not.
async fn wanted(
    connection: &mut PgConnection,
    keep: Duration,
    now: DateTime<Utc>,
) -> Result<Option<Hour>, SqlError> {
    let (database, newest): (DateTime<Utc>, Option<DateTime<Utc>>) = sqlx::query_as(
        "SELECT now(), coalesce(
             (SELECT max(recorded_at) FROM batches WHERE recorded_at >= now() - interval '1 hour'),
             (SELECT max(recorded_at) FROM batches WHERE recorded_at >= now() - interval '1 day'),
             (SELECT max(recorded_at) FROM batches WHERE recorded_at >= now() - interval '30 days'),
             (SELECT max(recorded_at) FROM batches))",
    )
    .fetch_one(connection)
    .await?;
    Ok(first_hour_kept(keep, now, database, newest))
}

struct Raised {
    retained_from: Hour,
    held_back_hours: u64,
}

impl Raised {
    fn to(retained_from: Hour, wanted: Hour) -> Self {
        Self {
            retained_from,
            held_back_hours: hours_held_back(Some(wanted), retained_from),
        }
    }
}

#[derive(Default)]
struct Deleted {
    batches: u64,
    more: bool,
}

/// The hour of the oldest batch of a time that is stored and not counted.
async fn oldest_uncounted(
    connection: &mut PgConnection,
    from: Hour,
    until: DateTime<Utc>,
) -> Result<Option<Hour>, SqlError> {
    let oldest: Option<DateTime<Utc>> = sqlx::query_scalar(
        "SELECT b.batch_at FROM batches b
         WHERE b.batch_at >= coalesce($1, '-infinity'::timestamptz) AND b.batch_at < $2
           AND NOT EXISTS (SELECT FROM ledger l WHERE l.batch_id = b.id)
         ORDER BY b.batch_at
         LIMIT 1",
    )
    .bind(start_of(from))
    .bind(until)
    .fetch_optional(connection)
    .await?;
    Ok(oldest.map(Hour::of))
}

/// The oldest hour among the batches that were recorded since that search began. `coalesce` hides the comparisons from the planner, which would
/// repeat the search along the index of `batch_at`.
async fn oldest_recorded_lately(
    connection: &mut PgConnection,
    from: Hour,
    until: DateTime<Utc>,
) -> Result<Option<Hour>, SqlError> {
    let oldest: Option<DateTime<Utc>> = sqlx::query_scalar(
        "SELECT min(b.batch_at) FROM batches b
         WHERE b.recorded_at >= now() - make_interval(secs => $3)
           AND coalesce(b.batch_at >= $1, true) AND coalesce(b.batch_at < $2, true)
           AND NOT EXISTS (SELECT FROM ledger l WHERE l.batch_id = b.id)",
    )
    .bind(start_of(from))
    .bind(until)
    .bind(SLOWEST_RECORD.as_secs_f64())
    .fetch_one(connection)
    .await?;
    Ok(oldest.map(Hour::of))
}

pub(crate) async fn retained_from(connection: &mut PgConnection) -> Result<Hour, SqlError> {
    let start = sqlx::query_scalar("SELECT retained_from FROM retention")
        .fetch_one(connection)
        .await?;
    Ok(hour(start))
}

/// From the column.
pub(crate) fn hour(retained_from: Option<DateTime<Utc>>) -> Hour {
    retained_from.map_or(FIRST_HOUR, Hour::of)
}
