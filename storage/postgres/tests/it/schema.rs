//! What readers of SQL rely on, and what no port shows.

use chrono::DateTime;
use shared_types::RegistrySeed;
use sqlx::{Connection, PgConnection, Row};
use storage::{BoxError, Hour, Maintenance, Outbox, Projection, Registry, StorageError};
use storage_conformance::samples::batches;
use storage_postgres::PostgresStorage;

use crate::{connect, empty_database};

type Outcome = Result<(), BoxError>;

/// A migrated and seeded database and its URL.
pub(crate) async fn prepared_at() -> Result<(PostgresStorage, String), BoxError> {
    let url = empty_database().await?;
    let storage = connect(&url)?;
    prepare(&storage).await?;
    Ok((storage, url))
}

pub(crate) async fn prepare(storage: &PostgresStorage) -> Outcome {
    storage.migrate().await?;
    storage
        .seed(&RegistrySeed::standard()?, DateTime::UNIX_EPOCH)
        .await?;
    Ok(())
}

/// The same and a connection for whatever a port does not do.
pub(crate) async fn prepared() -> Result<(PostgresStorage, PgConnection), BoxError> {
    let (storage, url) = prepared_at().await?;
    Ok((storage, PgConnection::connect(&url).await?))
}

#[tokio::test]
async fn values_are_plain_arrays_out_of_line() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..3)?;
    storage.record(&batches).await?;
    let storage_kind: i8 = sqlx::query_scalar(
        "SELECT attstorage FROM pg_attribute WHERE attrelid = 'batches'::regclass AND attname = 'data_points'",
    )
    .fetch_one(&mut sql)
    .await?;
    assert_eq!(
        storage_kind.cast_unsigned(),
        b'e',
        "EXTERNAL: out of line, not compressed"
    );
    for batch in &batches {
        let row = sqlx::query(
            "SELECT pg_typeof(data_points)::text AS type, cardinality(data_points) AS n, data_points[1] AS first
             FROM batches WHERE id = $1",
        )
        .bind(batch.id().as_uuid())
        .fetch_one(&mut sql)
        .await?;
        assert_eq!(row.try_get::<String, _>("type")?, "double precision[]");
        assert_eq!(
            usize::try_from(row.try_get::<i32, _>("n")?)?,
            batch.values().len()
        );
        assert_eq!(
            row.try_get::<f64, _>("first")?.to_bits(),
            batch.values()[0].to_bits()
        );
    }
    Ok(())
}

/// What no sequence and no timestamp can do: the row was written before the reader's position and is committed after.
#[tokio::test]
async fn a_change_that_is_committed_late_is_not_missed() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let mut late = sql.begin().await?;
    sqlx::query(
        "INSERT INTO statistics (llm_id, metric_id, source, period, state, n)
         SELECT (SELECT min(id) FROM llms), (SELECT min(id) FROM metrics), 'measured', -9223372036854775808, $1, 0",
    )
    .bind(statistics::RunningStatistics::new().to_bytes())
    .execute(&mut *late)
    .await?;
    storage.apply(&batches(0..10)?).await?;
    let position = storage.statistics_since(None, Hour(0)).await?.revision;
    storage.apply(&batches(10..20)?).await?;
    let position = storage.statistics_since(Some(position), Hour(0)).await?.revision;
    late.commit().await?;
    let change = storage.statistics_since(Some(position), Hour(0)).await?;
    let is_late = |row: &storage::StatisticsRow| row.key.source == shared_types::Source::Measured;
    assert!(!change.complete && change.rows.iter().any(is_late));
    Ok(())
}

#[tokio::test]
async fn a_stored_batch_that_was_tampered_with_is_a_fault() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    let batches = batches(0..1)?;
    storage.record(&batches).await?;
    sqlx::query("UPDATE batches SET data_points[1] = data_points[1] + 1")
        .execute(&mut sql)
        .await?;
    let fault = storage::BatchArchive::batch(&storage, batches[0].id()).await;
    assert!(matches!(fault, Err(StorageError::Fault { .. })), "{fault:?}");
    Ok(())
}

#[tokio::test]
async fn migrations_that_differ_are_a_fault() -> Outcome {
    let (storage, mut sql) = prepared().await?;
    for change in [
        "UPDATE _sqlx_migrations SET checksum = 'other'",
        "UPDATE _sqlx_migrations SET version = 999 WHERE version = 1",
    ] {
        sqlx::query(change).execute(&mut sql).await?;
        let fault = storage.migrate().await;
        assert!(matches!(fault, Err(StorageError::Fault { .. })), "{fault:?}");
    }
    Ok(())
}
