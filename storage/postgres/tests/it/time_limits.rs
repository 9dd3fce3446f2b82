//! What takes as long as there are data, and must not take for ever.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use storage::{
    BoxError, Maintenance, Outbox, Projection, Reconciliation, Requeued, StorageError,
    conformance::samples::batches,
};
use storage_postgres::{PostgresSettings, PostgresStorage, RebuildLimits};
use test_servers::PostgresServer;
use tokio::{runtime::Handle, task::block_in_place, time::timeout};

use crate::{
    MAINTENANCE,
    schema::{prepare, prepared_at},
    sessions_wait,
};

type Outcome = Result<(), BoxError>;

const SHORT: Duration = Duration::from_millis(200);
const MINUTE: Duration = Duration::from_secs(60);
/// More than a server is given that does not answer, and far less than any limit that a test does not shorten.
const PATIENCE: Duration = Duration::from_secs(30);

fn limited(url: &str, rebuild: RebuildLimits) -> Result<PostgresStorage, BoxError> {
    Ok(PostgresStorage::connect(PostgresSettings {
        acquire_timeout: SHORT,
        max_retries: 0,
        rebuild,
        ..PostgresSettings::from_url(url)?
    }))
}

/// The SQLSTATE of a fault that passes.
fn state(error: &StorageError) -> Option<String> {
    let StorageError::Unavailable { source, .. } = error else {
        return None;
    };
    let answer = source.downcast_ref::<sqlx::Error>()?.as_database_error()?;
    answer.code().map(Cow::into_owned)
}

/// Does something once, in the middle of a rebuild.
fn once(done: &AtomicU32, work: impl Future<Output = Outcome>) {
    if done.fetch_add(1, Ordering::Relaxed) == 1 {
        block_in_place(|| Handle::current().block_on(work)).expect("the middle of a rebuild");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_ends_when_the_server_freezes() -> Outcome {
    let server = PostgresServer::start().await?;
    let url = server.create_database().await?;
    let limits = RebuildLimits {
        page: SHORT,
        ..RebuildLimits::default()
    };
    let storage = limited(&url, limits)?;
    prepare(&storage).await?;
    storage.apply(&batches(0..200)?).await?;
    let steps = AtomicU32::new(0);
    let freeze = |_, _| once(&steps, async { Ok(server.freeze().await?) });
    let rebuilt = timeout(PATIENCE, storage.rebuild(&freeze));
    let error = rebuilt.await?.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    server.thaw()?;
    let patient = limited(&url, RebuildLimits::default())?;
    let rebuilt = timeout(PATIENCE, patient.rebuild(&|_, _| {}));
    assert_eq!(rebuilt.await??.batches, 200, "the turn was given back");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_waits_for_its_turn_learns_that_the_server_is_frozen() -> Outcome {
    let server = PostgresServer::start().await?;
    let url = server.create_database().await?;
    let storage = PostgresStorage::connect(PostgresSettings {
        lock_timeout: SHORT,
        max_retries: 0,
        ..PostgresSettings::from_url(&url)?
    });
    prepare(&storage).await?;
    let mut other = PgConnection::connect(&url).await?;
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(MAINTENANCE)
        .execute(&mut other)
        .await?;
    let mut watch = PgConnection::connect(&url).await?;
    let rebuilt = async { Ok::<_, BoxError>(timeout(PATIENCE, storage.rebuild(&|_, _| {})).await?) };
    let frozen = async {
        sessions_wait(&mut watch, 1).await?;
        Ok(server.freeze().await?)
    };
    let (rebuilt, ()) = futures::future::try_join(rebuilt, frozen).await?;
    let error = rebuilt.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    server.thaw()?;
    Ok(())
}

#[tokio::test]
async fn the_server_ends_the_statements_of_a_rebuild() -> Outcome {
    const STATEMENT_TIMEOUT: &str = "57014";
    let (storage, url) = prepared_at().await?;
    storage.apply(&batches(0..20)?).await?;
    let of_pages = RebuildLimits {
        page: SHORT,
        ..RebuildLimits::default()
    };
    let of_tables = RebuildLimits {
        table: SHORT,
        ..RebuildLimits::default()
    };
    let mut other = PgConnection::connect(&url).await?;
    // The pages are of batches; the first statement that reads a whole table counts the ledger.
    for (table, limits) in [("batches", of_pages), ("ledger", of_tables)] {
        let mut stall = other.begin().await?;
        sqlx::query(AssertSqlSafe(format!("LOCK TABLE {table}")))
            .execute(&mut *stall)
            .await?;
        let storage = limited(&url, limits)?;
        let error = timeout(PATIENCE, storage.rebuild(&|_, _| {})).await?.unwrap_err();
        assert_eq!(
            state(&error).as_deref(),
            Some(STATEMENT_TIMEOUT),
            "{table}: {error:?}"
        );
        stall.rollback().await?;
        storage.close().await;
    }
    assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_pauses_for_too_long_in_a_rebuild_loses_its_turn() -> Outcome {
    let (storage, url) = prepared_at().await?;
    storage.apply(&batches(0..200)?).await?;
    let pausing = limited(
        &url,
        RebuildLimits {
            pause: SHORT,
            ..RebuildLimits::default()
        },
    )?;
    let steps = AtomicU32::new(0);
    let pause = |_, _| {
        once(&steps, async {
            let mut other = PgConnection::connect(&url).await?;
            sqlx::query("SELECT pg_advisory_lock($1)")
                .bind(MAINTENANCE)
                .execute(&mut other)
                .await?;
            Ok(other.close().await?)
        });
    };
    let rebuilt = pausing.rebuild(&pause);
    let error = timeout(PATIENCE, rebuilt).await?.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    assert_eq!(storage.rebuild(&|_, _| {}).await?.batches, 200);
    Ok(())
}

/// Whoever searches the whole history may take longer than whoever goes on from where the last search ended.
#[tokio::test]
async fn only_the_first_search_for_lost_batches_may_take_long() -> Outcome {
    const STATEMENT_TIMEOUT: &str = "57014";
    let (storage, url) = prepared_at().await?;
    storage.record(&batches(0..4)?).await?;
    let limited = PostgresStorage::connect(PostgresSettings {
        statement_timeout: SHORT,
        max_retries: 0,
        ..PostgresSettings::from_url(&url)?
    });
    let mut other = PgConnection::connect(&url).await?;
    let mut watch = PgConnection::connect(&url).await?;
    let mut stall = other.begin().await?;
    // What the search reads, and what is cleaned up before does not wait for.
    sqlx::query("LOCK TABLE retention").execute(&mut *stall).await?;
    let first = async { Ok::<_, BoxError>(limited.requeue_uncounted(MINUTE, 10).await?) };
    let released = async {
        let waits_long = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                          AND wait_event_type = 'Lock' AND now() - query_start > interval '1 second'";
        while sqlx::query_scalar::<_, i64>(waits_long)
            .fetch_one(&mut watch)
            .await?
            == 0
        {}
        Ok(stall.rollback().await?)
    };
    let (first, ()) = futures::future::try_join(first, released).await?;
    assert_eq!(first, Requeued::default());

    let mut stall = other.begin().await?;
    sqlx::query("LOCK TABLE retention").execute(&mut *stall).await?;
    let error = timeout(PATIENCE, limited.requeue_uncounted(MINUTE, 10))
        .await?
        .unwrap_err();
    assert_eq!(state(&error).as_deref(), Some(STATEMENT_TIMEOUT), "{error:?}");
    stall.rollback().await?;
    Ok(())
}

#[tokio::test]
async fn a_search_for_lost_batches_ends_when_the_server_freezes() -> Outcome {
    let server = PostgresServer::start().await?;
    let url = server.create_database().await?;
    let storage = PostgresStorage::connect(PostgresSettings {
        acquire_timeout: SHORT,
        statement_timeout: SHORT,
        max_retries: 0,
        ..PostgresSettings::from_url(&url)?
    });
    prepare(&storage).await?;
    storage.record(&batches(0..4)?).await?;
    server.freeze().await?;
    let error = timeout(PATIENCE, storage.requeue_uncounted(MINUTE, 10))
        .await?
        .unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    server.thaw()?;
    Ok(())
}
