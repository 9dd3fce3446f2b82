//! Servers that are away, come back, and lose their connections.

use std::time::Duration;

use futures::future::{try_join, try_join_all};
use sqlx::{Connection, PgConnection};
use storage::{Applied, BoxError, Hour, Maintenance, Outbox, Projection, Recorded, StorageError};
use storage_conformance::samples::batches;
use storage_postgres::{PostgresSettings, PostgresStorage};
use test_patience::until;
use test_servers::PostgresServer;
use tokio::{sync::watch, time};

use crate::{
    connect, empty_database,
    schema::{prepare, prepared_at},
    sessions_wait,
};

type Outcome = Result<(), BoxError>;

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
    let (before, batches) = (connect(&url)?, batches(0..4)?);
    prepare(&before).await?;
    server.stop().await?;

    // One that was connected, and one that is made while the server is away. Nobody answers: their limits pass in
    // virtual time.
    time::pause();
    let made_meanwhile = connect(&url)?;
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

    time::resume();
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
    let url = empty_database().await?;
    let storage = patient(&url)?;
    prepare(&storage).await?;
    let batches = batches(0..400)?;
    let (progress, mut progressing) = watch::channel(0_u32);
    let pipeline = async {
        // What tells of progress ends with it.
        let progress = progress;
        try_join_all(batches.chunks(100).map(async |share| {
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
                progress.send_modify(|pieces| *pieces += 1);
            }
            Ok::<_, BoxError>(())
        }))
        .await
    };
    let mut other = PgConnection::connect(&url).await?;
    let killing = async {
        const PIECES_BETWEEN_KILLS: u32 = 4;
        let (mut killed, mut next) = (0, 1);
        // After progress only: on a slow machine nothing would be done between kills that come by the clock.
        while progressing.wait_for(|pieces| *pieces >= next).await.is_ok() {
            next = *progressing.borrow() + PIECES_BETWEEN_KILLS;
            killed += sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .execute(&mut other)
            .await?
            .rows_affected();
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
    let (storage, url) = prepared_at().await?;
    let impatient = PostgresStorage::connect(PostgresSettings {
        lock_timeout: Duration::from_millis(100),
        max_retries: 1,
        ..PostgresSettings::from_url(&url)?
    });
    let batches = batches(0..4)?;
    storage.apply(&batches[..2]).await?;
    let mut watch = PgConnection::connect(&url).await?;
    let mut connection = PgConnection::connect(&url).await?;
    let mut stall = connection.begin().await?;
    sqlx::query("SELECT FROM statistics FOR UPDATE")
        .execute(&mut *stall)
        .await?;
    let again = [&batches[..], &batches[..]].concat();
    tokio::select! {
        ended = impatient.rebuild(&|_, _| {}) => panic!("a rebuild does not wait for its turn: {ended:?}"),
        () = sessions_wait(&mut watch, 1) => {}
    }
    sqlx::query("LOCK TABLE ledger").execute(&mut *stall).await?;
    let error = impatient.apply(&again).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    assert!(
        !storage.statistics_since(None, Hour(0)).await?.rows.is_empty(),
        "readers go on"
    );
    stall.rollback().await?;
    until("the abandoned rebuild has ended", async || {
        !storage.is_rebuilding().await.expect("a server that answers")
    })
    .await;
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

#[tokio::test(start_paused = true)]
async fn no_error_shows_the_password() -> Outcome {
    let storage = connect("postgres://me:canary-secret@127.0.0.1:1/nowhere")?;
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
