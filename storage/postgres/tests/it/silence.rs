//! A network that swallows what connections say, without a reset.

use std::{sync::Arc, time::Duration};

use storage::{BoxError, Outbox, Recorded, StorageError, conformance::samples::batches};
use storage_postgres::{PostgresSettings, PostgresStorage};
use test_servers::PostgresServer;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};

use crate::schema::prepare;

/// Relays connections to `server`. When notified, it forgets those that there are: they stay open, and nothing passes.
async fn relay(listener: TcpListener, server: u16, silence: Arc<Notify>) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let silence = Arc::clone(&silence);
        connections.spawn(async move {
            let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
            tokio::select! {
                copied = copy_bidirectional(&mut client, &mut server) => copied.map(drop),
                () = silence.notified() => std::future::pending().await,
            }
        });
    }
}

#[tokio::test]
async fn a_connection_that_was_cut_off_leaves_the_pool() -> Result<(), BoxError> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let server = PostgresServer::start().await?;
    let direct = server.create_database().await?;
    let port = server.port().ok_or("a private server")?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let relayed = direct.replace(
        &format!(":{port}/"),
        &format!(":{}/", listener.local_addr()?.port()),
    );
    let silence = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(relay(listener, port, Arc::clone(&silence)));

    let storage = PostgresStorage::connect(PostgresSettings {
        max_connections: 1,
        acquire_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_secs(1),
        max_retries: 0,
        ..PostgresSettings::from_url(&relayed)?
    });
    prepare(&storage).await?;
    let batches = batches(0..4)?;
    assert_eq!(storage.record(&batches[..2]).await?, vec![Recorded::Stored; 2]);

    silence.notify_waiters();
    let error = storage.record(&batches[2..]).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    // New connections pass; the only one of the pool does not, and must give its place up.
    let recorded = timeout(PATIENCE, async {
        loop {
            match storage.record(&batches[2..]).await {
                Err(StorageError::Unavailable { .. }) => {}
                settled => return settled,
            }
        }
    });
    assert_eq!(recorded.await??, vec![Recorded::Stored; 2]);
    Ok(())
}
