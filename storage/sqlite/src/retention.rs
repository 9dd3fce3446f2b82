//! What is kept, and forgetting the rest.
//!
//! There is one writer at a time, so the limit, the batches and the ledger always agree: who counts a batch finds it in
//! the ledger or finds the limit that it is before.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use storage::{Hour, Pruned};
use storage_sql::{
    SqlError,
    columns::FIRST_HOUR,
    retention::{first_hour_kept, hours_held_back},
};
use uuid::Uuid;

use crate::{
    SqliteStorage,
    time_columns::{from_column, from_optional_column, start_of, to_column},
};

impl SqliteStorage {
    pub(crate) async fn prune_once(
        &self,
        keep: Duration,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Pruned, SqlError> {
        let mut transaction = self.begin().await?;
        let newest = sqlx::query_scalar("SELECT max(recorded_at) FROM batches")
            .fetch_one(&mut *transaction)
            .await?;
        let wanted = first_hour_kept(keep, now, self.now(), from_optional_column(newest)?);
        let retained_from = raise(&mut transaction, wanted.unwrap_or(FIRST_HOUR)).await?;
        let (batches, more) = delete_before(&mut transaction, retained_from, limit).await?;
        transaction.commit().await?;
        Ok(Pruned {
            retained_from,
            batches,
            more,
            held_back_hours: hours_held_back(wanted, retained_from),
        })
    }
}

/// Raises the limit to `before`, or to the hour of the oldest stored batch that is not counted.
async fn raise(connection: &mut SqliteConnection, before: Hour) -> Result<Hour, SqlError> {
    let now = retained_from(connection).await?;
    if before <= now {
        return Ok(now);
    }
    let oldest: Option<i64> = sqlx::query_scalar(
        "SELECT batch_at FROM batches
         WHERE batch_at >= $1 AND batch_at < $2 AND NOT EXISTS (SELECT 1 FROM ledger WHERE batch_id = id)
         ORDER BY batch_at
         LIMIT 1",
    )
    .bind(start_of(now))
    .bind(start_of(before))
    .fetch_optional(&mut *connection)
    .await?;
    let limit = match oldest {
        Some(oldest) => Hour::of(from_column(oldest)?).min(before),
        None => before,
    };
    if limit > now {
        sqlx::query("UPDATE retention SET retained_from = $1")
            .bind(to_column(limit.start()))
            .execute(connection)
            .await?;
    }
    Ok(limit.max(now))
}

/// Gives how many were deleted, and whether the limit left some.
async fn delete_before(
    connection: &mut SqliteConnection,
    hour: Hour,
    limit: u32,
) -> Result<(u64, bool), SqlError> {
    let mut old: Vec<Uuid> = sqlx::query_scalar(
        "SELECT b.id FROM batches b CROSS JOIN ledger l
         WHERE l.batch_id = b.id AND b.batch_at < $1
         ORDER BY b.batch_at, b.id
         LIMIT $2",
    )
    .bind(start_of(hour))
    .bind(i64::from(limit) + 1)
    .fetch_all(&mut *connection)
    .await?;
    let more = old.len() > limit as usize;
    old.truncate(limit as usize);
    for id in &old {
        // What refers to a batch goes before it.
        for statement in [
            "DELETE FROM outbox WHERE batch_id = $1",
            "DELETE FROM uncounted WHERE batch_id = $1",
            "DELETE FROM ledger WHERE batch_id = $1",
            "DELETE FROM batches WHERE id = $1",
        ] {
            sqlx::query(statement).bind(*id).execute(&mut *connection).await?;
        }
    }
    Ok((old.len() as u64, more))
}

pub(crate) async fn retained_from(connection: &mut SqliteConnection) -> Result<Hour, SqlError> {
    let start = sqlx::query_scalar("SELECT retained_from FROM retention")
        .fetch_one(connection)
        .await?;
    Ok(from_optional_column(start)?.map_or(FIRST_HOUR, Hour::of))
}
