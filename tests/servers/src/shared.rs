//! One server per process, for tests that do not stop it.

use std::env;

use tokio::sync::OnceCell;

use crate::{PostgresOptions, PostgresServer, RabbitMqOptions, RabbitMqServer};

/// The process's PostgreSQL server: that of `DATABASE_URL`, else a private one without fsync, which the first call starts.
///
/// Tests share it, each with a database of its own from [`PostgresServer::create_database`]. A test that stops, freezes or kills
/// a server starts a private one.
///
/// # Panics
/// The server cannot be started. The message is the error's.
pub async fn shared_postgres() -> &'static PostgresServer {
    static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
    SERVER
        .get_or_init(|| async {
            match url_of("DATABASE_URL") {
                Some(url) => PostgresServer::external(url),
                None => PostgresServer::start_with(PostgresOptions::without_fsync())
                    .await
                    .unwrap_or_else(|error| panic!("{error}")),
            }
        })
        .await
}

/// The process's RabbitMQ server: that of `AMQP_URL` (administered through `RABBITMQ_MANAGEMENT_URL`), else a private one, which the
/// first call starts.
///
/// Tests share it, each with a virtual host of its own from [`RabbitMqServer::create_vhost`].
///
/// # Panics
/// The server cannot be started. The message is the error's.
pub async fn shared_rabbitmq() -> &'static RabbitMqServer {
    static SERVER: OnceCell<RabbitMqServer> = OnceCell::const_new();
    SERVER
        .get_or_init(|| async {
            match url_of("AMQP_URL") {
                Some(url) => RabbitMqServer::external(url, url_of("RABBITMQ_MANAGEMENT_URL").as_deref()),
                None => RabbitMqServer::start_with(RabbitMqOptions::default())
                    .await
                    .unwrap_or_else(|error| panic!("{error}")),
            }
        })
        .await
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests have no settings: where their servers are comes from outside"
)]
fn url_of(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|url| !url.is_empty())
}
