//! A network that swallows what connections say, without a reset.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::PgConnectOptions;
use storage::{BoxError, Outbox, Recorded, StorageError};
use storage_conformance::samples::batches;
use storage_postgres::{PostgresSettings, PostgresStorage};
use test_patience::found;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time,
};

use crate::{empty_database, schema::prepare};

/// Relays connections to `server`. When notified, it forgets those that there are: they stay open, and nothing passes.
async fn relay(listener: TcpListener, server: PgConnectOptions, silence: Arc<Notify>) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let (server, silence) = (server.clone(), Arc::clone(&silence));
        connections.spawn(async move {
            let mut server = TcpStream::connect((server.get_host(), server.get_port())).await?;
            tokio::select! {
                // First: what is said after the notification does not pass.
                biased;
                () = silence.notified() => std::future::pending().await,
                copied = copy_bidirectional(&mut client, &mut server) => copied.map(drop),
            }
        });
    }
}

/// Far less than TCP takes to give a connection up.
const A_WHILE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_connection_that_was_cut_off_leaves_the_pool() -> Result<(), BoxError> {
    let server: PgConnectOptions = empty_database().await?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let relayed = server
        .clone()
        .host("127.0.0.1")
        .port(listener.local_addr()?.port());
    let silence = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(relay(listener, server, Arc::clone(&silence)));

    let storage = PostgresStorage::connect(PostgresSettings {
        max_connections: 1,
        max_retries: 0,
        ..PostgresSettings::new(relayed)
    });
    prepare(&storage).await?;
    let batches = batches(0..4)?;
    assert_eq!(storage.record(&batches[..2]).await?, vec![Recorded::Stored; 2]);

    silence.notify_waiters();
    // Nothing passes, so that the limits may pass in virtual time.
    time::pause();
    let error = storage.record(&batches[2..]).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    time::sleep(A_WHILE).await;
    time::resume();
    // New connections pass; the only one of the pool did not, and has given its place up.
    let recorded = found("a connection that passes", async || {
        match storage.record(&batches[2..]).await {
            Err(StorageError::Unavailable { .. }) => None,
            settled => Some(settled),
        }
    });
    assert_eq!(recorded.await?, vec![Recorded::Stored; 2]);
    Ok(())
}
