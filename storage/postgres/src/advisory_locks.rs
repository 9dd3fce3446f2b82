//! Locks that are on no row and no table. The keys are ours alone within a database: the first half is the same for all
//! and unlike the driver's, which locks migrations by a hash of the database's name.
use sqlx::PgConnection;
use storage_sql::SqlError;

/// `LLMB` in ASCII.
const OURS: i64 = 0x4c4c_4d42 << 32;

/// Held by rebuilds and prunings, one at a time: a rebuild reads what a pruning deletes.
pub(crate) const MAINTENANCE: i64 = OURS | 1;

/// Shared by whoever records or counts batches, taken alone by who raises the limit of what is kept: nobody stores or
/// counts a batch by a limit that has changed.
pub(crate) const RETENTION: i64 = OURS | 2;

/// Shared by whoever counts batches, held alone by a rebuild: it recomputes what the others change.
pub(crate) const COUNTING: i64 = OURS | 3;

/// Takes a lock until the transaction ends, unless somebody holds it; tells whether.
pub(crate) async fn try_until_end_of_transaction(
    connection: &mut PgConnection,
    lock: i64,
) -> Result<bool, SqlError> {
    Ok(sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
        .bind(lock)
        .fetch_one(connection)
        .await?)
}
