//! A private PostgreSQL: used, frozen, killed, restarted.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use test_patience::{soon, until};
use test_servers::{Error, PostgresOptions, PostgresServer, shared_postgres};
use tokio::time::timeout;

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn write_row(url: &str) {
    let mut connection = connect(url).await;
    sqlx::raw_sql("CREATE TABLE kept (value bigint NOT NULL); INSERT INTO kept VALUES (42)")
        .execute(&mut connection)
        .await
        .unwrap();
}

async fn read_row(url: &str) -> i64 {
    sqlx::query_scalar("SELECT value FROM kept")
        .fetch_one(&mut connect(url).await)
        .await
        .unwrap()
}

/// One server for all cases that do not stop it, because a start takes a while.
#[tokio::test]
async fn a_server_is_durable_asks_for_its_password_and_is_administered() {
    let began = Instant::now();
    let server = PostgresServer::start().await.unwrap();
    println!("PostgreSQL started in {:?}", began.elapsed());

    it_writes_to_disk_by_default(&server).await;
    a_wrong_password_is_refused(&server).await;
    terminated_backends_lose_their_connection(&server).await;
    a_frozen_server_keeps_its_connections_and_answers_after_the_thaw(&server).await;

    let stopping = Instant::now();
    drop(server);
    println!("PostgreSQL dropped in {:?}", stopping.elapsed());
}

async fn it_writes_to_disk_by_default(server: &PostgresServer) {
    let fsync: String = sqlx::query_scalar("SHOW fsync")
        .fetch_one(&mut connect(server.url()).await)
        .await
        .unwrap();
    assert_eq!(fsync, "on");
}

async fn a_wrong_password_is_refused(server: &PostgresServer) {
    let (user, rest) = server.url().split_once('@').unwrap();
    let wrong = format!("{}:wrong@{rest}", user.rsplit_once(':').unwrap().0);
    let error = PgConnection::connect(&wrong).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().unwrap(), "28P01");
}

async fn terminated_backends_lose_their_connection(server: &PostgresServer) {
    let mut connection = connect(server.url()).await;
    // The backends of closed connections may end a moment later.
    until("no other backend is left", async || {
        let backends = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
        let backends: i64 = sqlx::query_scalar(backends)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        backends == 1
    })
    .await;
    assert_eq!(server.terminate_backends().await.unwrap(), 1);
    assert!(sqlx::raw_sql("SELECT 1").execute(&mut connection).await.is_err());
    assert!(connect(server.url()).await.ping().await.is_ok());
}

async fn a_frozen_server_keeps_its_connections_and_answers_after_the_thaw(server: &PostgresServer) {
    let mut connection = connect(server.url()).await;
    server.freeze().await.unwrap();
    let mut answer = std::pin::pin!(sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut connection));
    assert!(
        timeout(Duration::from_millis(300), &mut answer).await.is_err(),
        "frozen, yet it answered"
    );
    server.thaw().unwrap();
    assert_eq!(soon("the answer", answer).await.unwrap(), 1);
}

#[tokio::test]
async fn the_shared_server_is_one_and_its_databases_are_many() {
    let (one, other) = tokio::join!(shared_postgres(), shared_postgres());
    assert!(std::ptr::eq(one, other));
    let (first, second) = tokio::join!(one.create_database(), one.create_database());
    let (first, second) = (first.unwrap(), second.unwrap());
    write_row(&first).await;
    let kept_elsewhere: Option<String> = sqlx::query_scalar("SELECT to_regclass('kept')::text")
        .fetch_one(&mut connect(&second).await)
        .await
        .unwrap();
    assert_eq!(
        kept_elsewhere, None,
        "a fresh database must not see another's tables"
    );
}

/// Each `#[tokio::test]` has a runtime of its own. The shared server must outlive the first one.
#[tokio::test]
async fn the_shared_server_outlives_the_runtime_that_started_it() {
    std::thread::spawn(|| {
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(async { shared_postgres().await.port() })
    })
    .join()
    .unwrap();
    write_row(&shared_postgres().await.create_database().await.unwrap()).await;
}

#[tokio::test]
async fn committed_rows_survive_every_end() {
    let server = PostgresServer::start().await.unwrap();
    let url = server.create_database().await.unwrap();
    write_row(&url).await;
    let port = server.port();

    server.kill().await.unwrap();
    assert!(
        PgConnection::connect(&url).await.is_err(),
        "a killed server must not answer"
    );
    assert!(matches!(server.stop().await, Err(Error::WrongState { .. })));
    server.start_again().await.unwrap();
    assert_eq!(read_row(&url).await, 42);

    server.crash().await.unwrap();
    server.start_again().await.unwrap();
    assert_eq!(read_row(&url).await, 42);

    server.restart().await.unwrap();
    assert_eq!(read_row(&url).await, 42);
    assert!(matches!(
        server.start_again().await,
        Err(Error::WrongState { .. })
    ));
    assert_eq!(server.port(), port);
}

#[tokio::test]
async fn settings_reach_a_server_that_is_stopped_and_killed_while_it_is_frozen() {
    let with = |name: &str, value: &str| PostgresOptions {
        settings: vec![(name.to_owned(), value.to_owned())],
        ..PostgresOptions::without_fsync()
    };
    let server = PostgresServer::start_with(with("deadlock_timeout", "123ms"))
        .await
        .unwrap();
    server.freeze().await.unwrap();
    server.stop().await.unwrap();
    server.start_again().await.unwrap();
    server.freeze().await.unwrap();
    server.kill().await.unwrap();
    server.start_again().await.unwrap();
    let timeout: String = sqlx::query_scalar("SHOW deadlock_timeout")
        .fetch_one(&mut connect(server.url()).await)
        .await
        .unwrap();
    assert_eq!(timeout, "123ms");
    assert!(server.create_database().await.is_ok());
}

#[tokio::test]
async fn a_bad_setting_is_named() {
    let error = PostgresServer::start_with(PostgresOptions {
        settings: vec![("no_such_setting".to_owned(), "1".to_owned())],
        ..PostgresOptions::without_fsync()
    })
    .await
    .unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn kept_data_are_found_again_and_used_by_one_server_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    // The server's user needs access.
    std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let kept = || PostgresOptions {
        directory: Some(root.path().join("with [odd] name")),
        ..PostgresOptions::without_fsync()
    };
    let server = PostgresServer::start_with(kept()).await.unwrap();
    write_row(&server.ensure_database("kept").await.unwrap()).await;
    let second = PostgresServer::start_with(kept()).await.unwrap_err();
    assert!(matches!(second, Error::DirectoryInUse { .. }), "{second}");
    drop(server);

    let server = PostgresServer::start_with(kept()).await.unwrap();
    assert_eq!(read_row(&server.ensure_database("kept").await.unwrap()).await, 42);
}
