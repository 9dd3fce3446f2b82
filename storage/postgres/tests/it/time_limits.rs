//! What takes as long as there are data, and must not take for ever.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use futures::future::{join, try_join};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use storage::{BoxError, Maintenance, Outbox, Projection, Reconciliation, Requeued, StorageError};
use storage_conformance::samples::batches;
use storage_postgres::{PostgresSettings, PostgresStorage, RebuildLimits};
use test_patience::{soon, until};
use test_servers::PostgresServer;
use tokio::{runtime, time};

use crate::{
    MAINTENANCE, connect,
    schema::{prepare, prepared_at},
    sessions_wait,
};

type Outcome = Result<(), BoxError>;

const SHORT: Duration = Duration::from_millis(200);
const MINUTE: Duration = Duration::from_secs(60);

fn limited(url: &str, rebuild: RebuildLimits) -> Result<PostgresStorage, BoxError> {
    Ok(PostgresStorage::connect(PostgresSettings {
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
fn once(steps: &AtomicU32, work: impl FnOnce()) {
    if steps.fetch_add(1, Ordering::Relaxed) == 1 {
        work();
    }
}

/// Does something while the thread of the rebuild waits.
fn waited_for(work: impl Future<Output = Outcome> + Send) {
    let elsewhere = || {
        runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(work)
    };
    let done = thread::scope(|scope| scope.spawn(elsewhere).join());
    done.expect("no panic").expect("the middle of a rebuild");
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
    // The ledger is counted, which reads a whole table; LLMs are looked for only where rows are compared.
    for (table, limits) in [("llms", of_pages), ("ledger", of_tables)] {
        let mut stall = other.begin().await?;
        sqlx::query(AssertSqlSafe(format!("LOCK TABLE {table}")))
            .execute(&mut *stall)
            .await?;
        let storage = limited(&url, limits)?;
        let ended = soon("the server ends the rebuild", storage.rebuild(&|_, _| {}));
        let error = ended.await.unwrap_err();
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

#[tokio::test]
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
        once(&steps, || {
            waited_for(async {
                let mut other = PgConnection::connect(&url).await?;
                sqlx::query("SELECT pg_advisory_lock($1)")
                    .bind(MAINTENANCE)
                    .execute(&mut other)
                    .await?;
                Ok(other.close().await?)
            });
        });
    };
    let rebuilt = soon("the rebuild has lost its turn", pausing.rebuild(&pause));
    let error = rebuilt.await.unwrap_err();
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
        // On a busy machine the limit may also strike where nobody stands in the way.
        max_retries: 3,
        retry_delay: Duration::from_millis(10),
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
        until(
            "the search waits for longer than a statement may take",
            async || {
                let waiting = sqlx::query_scalar::<_, i64>(waits_long)
                    .fetch_one(&mut watch)
                    .await;
                waiting.expect("a server that answers") > 0
            },
        )
        .await;
        Ok(stall.rollback().await?)
    };
    let (first, ()) = try_join(first, released).await?;
    assert_eq!(first, Requeued::default());

    let mut stall = other.begin().await?;
    sqlx::query("LOCK TABLE retention").execute(&mut *stall).await?;
    let ended = soon(
        "the server ends the search",
        limited.requeue_uncounted(MINUTE, 10),
    );
    let error = ended.await.unwrap_err();
    assert_eq!(state(&error).as_deref(), Some(STATEMENT_TIMEOUT), "{error:?}");
    stall.rollback().await?;
    Ok(())
}

/// Whatever they do then. The server is frozen in real time and answers nothing; their limits pass in virtual time.
#[tokio::test]
async fn whoever_works_on_a_server_that_freezes_learns_of_it() -> Outcome {
    let server = PostgresServer::start().await?;
    a_rebuild_learns(&server).await?;
    a_rebuild_that_waits_for_its_turn_learns(&server).await?;
    a_search_for_lost_batches_learns(&server).await
}

fn assert_unavailable<T: std::fmt::Debug>(ended: &storage::Result<T>) {
    assert!(
        matches!(ended, Err(StorageError::Unavailable { .. })),
        "{ended:?}"
    );
}

async fn a_rebuild_learns(server: &PostgresServer) -> Outcome {
    let storage = connect(&server.create_database().await?)?;
    prepare(&storage).await?;
    storage.apply(&batches(0..200)?).await?;
    let steps = AtomicU32::new(0);
    let freeze = |_, _| {
        once(&steps, || {
            waited_for(async { Ok(server.freeze().await?) });
            time::pause();
        });
    };
    assert_unavailable(&storage.rebuild(&freeze).await);
    time::resume();
    server.thaw()?;
    let rebuilt = soon("the turn was given back", storage.rebuild(&|_, _| {}));
    assert_eq!(rebuilt.await?.batches, 200);
    Ok(())
}

async fn a_rebuild_that_waits_for_its_turn_learns(server: &PostgresServer) -> Outcome {
    let url = server.create_database().await?;
    let storage = connect(&url)?;
    prepare(&storage).await?;
    let mut other = PgConnection::connect(&url).await?;
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(MAINTENANCE)
        .execute(&mut other)
        .await?;
    let mut watch = PgConnection::connect(&url).await?;
    let frozen = async {
        sessions_wait(&mut watch, 1).await;
        server.freeze().await?;
        time::pause();
        Ok::<_, BoxError>(())
    };
    let (rebuilt, frozen) = join(storage.rebuild(&|_, _| {}), frozen).await;
    frozen?;
    assert_unavailable(&rebuilt);
    time::resume();
    Ok(server.thaw()?)
}

async fn a_search_for_lost_batches_learns(server: &PostgresServer) -> Outcome {
    let storage = connect(&server.create_database().await?)?;
    prepare(&storage).await?;
    storage.record(&batches(0..4)?).await?;
    server.freeze().await?;
    time::pause();
    assert_unavailable(&storage.requeue_uncounted(MINUTE, 10).await);
    time::resume();
    Ok(server.thaw()?)
}
