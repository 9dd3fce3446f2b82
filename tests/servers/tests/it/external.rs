//! External servers are used and never stopped.

use test_servers::{Error, PostgresServer, RabbitMqServer, shared_postgres};

macro_rules! assert_not_ours {
    ($($call:expr),+ $(,)?) => { $(assert!(matches!($call, Err(Error::NotOurs { .. })));)+ };
}

#[tokio::test]
async fn another_ones_postgresql_gives_databases_but_cannot_be_stopped() {
    let server = PostgresServer::external(shared_postgres().await.url().to_owned());
    let url = server.create_database().await.unwrap();
    assert_ne!(url, server.url());
    assert_not_ours!(
        server.stop().await,
        server.crash().await,
        server.kill().await,
        server.freeze().await,
        server.thaw(),
        server.start_again().await,
        server.restart().await,
        server.terminate_backends().await,
    );
    assert!(server.create_database().await.is_ok(), "it must still run");
}

#[tokio::test]
async fn another_ones_broker_gives_its_url_but_cannot_be_stopped() {
    let given = "amqp://user:word@broker.example/vhost";
    let server = RabbitMqServer::external(given.to_owned(), None);
    assert_eq!(server.create_vhost().await.unwrap(), given);
    assert_not_ours!(
        server.stop().await,
        server.kill().await,
        server.freeze().await,
        server.thaw(),
        server.start_again().await,
        server.restart().await,
        server.rabbitmqctl(&["status"]).await,
    );
}

#[tokio::test]
async fn a_malformed_url_is_named_without_its_password() {
    let error = PostgresServer::external("nonsense with secret".to_owned())
        .create_database()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Url { .. }));
    assert!(!error.to_string().contains("secret"));
}
