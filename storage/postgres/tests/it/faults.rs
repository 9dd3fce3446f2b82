//! Servers that are away, come back, and lose their connections.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::future::{try_join, try_join_all};
use sqlx::{Connection, PgConnection};
use storage::{
    Applied, BoxError, Hour, Maintenance, Outbox, Projection, Recorded, StorageError,
    conformance::samples::batches,
};
use storage_postgres::{PostgresSettings, PostgresStorage};
use test_servers::PostgresServer;

use crate::{empty_database, schema::prepare};

type Outcome = Result<(), BoxError>;

/// Gives up soon.
fn impatient(url: &str) -> Result<PostgresStorage, BoxError> {
    Ok(PostgresStorage::connect(PostgresSettings {
        acquire_timeout: Duration::from_millis(200),
        lock_timeout: Duration::from_millis(100),
        max_retries: 1,
        retry_delay: Duration::from_millis(10),
        ..PostgresSettings::from_url(url)?
    }))
}

/// Never gives up within a test.
fn patient(url: &str) -> Result<PostgresStorage, BoxError> {
    Ok(PostgresStorage::connect(PostgresSettings {
        max_retries: 100,
        retry_delay: Duration::from_millis(20),
        ..PostgresSettings::from_url(url)?
    }))
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_and_one_that_comes_back_is_used() -> Outcome {
    let server = PostgresServer::start().await?;
    let url = server.create_database().await?;
    let (before, batches) = (impatient(&url)?, batches(0..4)?);
    prepare(&before).await?;
    server.stop().await?;

    // One that was connected, and one that is made while the server is away.
    let made_meanwhile = impatient(&url)?;
    for storage in [&before, &made_meanwhile] {
        for error in [
            storage.ping().await.unwrap_err(),
            storage.record(&batches).await.unwrap_err(),
            storage.apply(&batches).await.unwrap_err(),
            storage.migrate().await.unwrap_err(),
        ] {
            assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
        }
    }

    let waiting = patient(&url)?;
    let (recorded, ()) = try_join(
        async { Ok::<_, BoxError>(waiting.record(&batches).await?) },
        async { Ok(server.start_again().await?) },
    )
    .await?;
    assert_eq!(recorded, vec![Recorded::Stored; 4]);
    for storage in [&before, &made_meanwhile] {
        assert_eq!(storage.record(&batches).await?, vec![Recorded::AlreadyStored; 4]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_count_once_while_connections_are_killed() -> Outcome {
    let server = PostgresServer::start().await?;
    let storage = patient(&server.create_database().await?)?;
    prepare(&storage).await?;
    let batches = batches(0..400)?;
    let done = AtomicBool::new(false);
    let pipeline = async {
        let result = try_join_all(batches.chunks(100).map(async |share| {
            for piece in share.chunks(5) {
                let recorded = storage.record(piece).await?;
                assert!(
                    !recorded
                        .iter()
                        .any(|outcome| matches!(outcome, Recorded::Refused(_)))
                );
                let applied = storage.apply(piece).await?;
                assert!(
                    !applied
                        .iter()
                        .any(|outcome| matches!(outcome, Applied::Refused(_)))
                );
            }
            Ok::<_, BoxError>(())
        }))
        .await;
        done.store(true, Ordering::Release);
        result
    };
    let killing = async {
        let mut killed = 0;
        while !done.load(Ordering::Acquire) {
            killed += server.terminate_backends().await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok::<_, BoxError>(killed)
    };
    let (_, killed) = try_join(pipeline, killing).await?;
    assert!(killed > 0, "nothing was put to the test");
    assert_eq!(storage.counted_batches().await?, 400);
    assert_eq!(storage.outbox_depth().await?.unpublished, 400);
    assert_eq!(storage.rebuild(&|_, _| {}).await?.changed, 0);
    Ok(())
}

#[tokio::test]
async fn a_lock_that_is_held_too_long_is_unavailable() -> Outcome {
    let url = empty_database().await?;
    let storage = impatient(&url)?;
    prepare(&storage).await?;
    let batches = batches(0..4)?;
    storage.apply(&batches[..2]).await?;
    let mut connection = PgConnection::connect(&url).await?;
    let mut stall = connection.begin().await?;
    sqlx::query("SELECT FROM statistics FOR UPDATE")
        .execute(&mut *stall)
        .await?;
    let again = [&batches[..], &batches[..]].concat();
    let stalled = storage.rebuild(&|_, _| {});
    let stalled = tokio::time::timeout(Duration::from_millis(300), stalled).await;
    assert!(stalled.is_err(), "a rebuild waits for its turn");
    sqlx::query("LOCK TABLE ledger").execute(&mut *stall).await?;
    let error = storage.apply(&again).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    assert!(
        !storage.statistics_since(None, Hour(0)).await?.rows.is_empty(),
        "readers go on"
    );
    stall.rollback().await?;
    let applied = storage.apply(&batches).await?;
    assert_eq!(
        applied
            .iter()
            .filter(|outcome| **outcome == Applied::Counted)
            .count(),
        2
    );
    Ok(())
}

#[tokio::test]
async fn no_error_shows_the_password() -> Outcome {
    let storage = impatient("postgres://me:canary-secret@127.0.0.1:1/nowhere")?;
    let mut shown = format!("{storage:?}");
    for error in [
        storage.ping().await.unwrap_err(),
        storage.migrate().await.unwrap_err(),
    ] {
        shown += &format!("{error:?}");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            shown += &error.to_string();
            cause = error.source();
        }
    }
    assert!(!shown.contains("canary"), "{shown}");
    Ok(())
}
