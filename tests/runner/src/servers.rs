//! The servers that all tests of a run share.

use anyhow::ensure;
use test_servers::{Error, PostgresOptions, PostgresServer, RabbitMqOptions, RabbitMqServer};

/// One PostgreSQL and one RabbitMQ, ended when dropped. Where `DATABASE_URL` or `AMQP_URL` is set, somebody else's
/// server is used and none is started.
pub(crate) struct Servers {
    postgres: Option<PostgresServer>,
    rabbitmq: Option<RabbitMqServer>,
}

impl Servers {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        ensure!(
            !is_set("AMQP_URL") || is_set("RABBITMQ_MANAGEMENT_URL"),
            "AMQP_URL is set and RABBITMQ_MANAGEMENT_URL is not: every test needs a virtual host of its own, which is made \
             through the management plugin (http://user:password@host:15672)"
        );
        let (postgres, rabbitmq) = tokio::try_join!(postgres(), rabbitmq())?;
        Ok(Self { postgres, rabbitmq })
    }

    /// How `test_servers::shared_postgres` and `shared_rabbitmq` learn of them.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let postgres = self.postgres.iter().map(|it| ("DATABASE_URL", it.url()));
        let rabbitmq = self.rabbitmq.iter().flat_map(|it| {
            let management = it
                .management_url()
                .map(|management| ("RABBITMQ_MANAGEMENT_URL", management));
            [("AMQP_URL", it.amqp_url())].into_iter().chain(management)
        });
        postgres
            .chain(rabbitmq)
            .map(|(name, url)| (name, url.to_owned()))
            .collect()
    }
}

async fn postgres() -> Result<Option<PostgresServer>, Error> {
    if is_set("DATABASE_URL") {
        return Ok(None);
    }
    PostgresServer::start_with(PostgresOptions::without_fsync())
        .await
        .map(Some)
}

/// With the management plugin, through which a test makes its virtual host in milliseconds.
async fn rabbitmq() -> Result<Option<RabbitMqServer>, Error> {
    if is_set("AMQP_URL") {
        return Ok(None);
    }
    let managed = RabbitMqOptions {
        management: true,
        ..RabbitMqOptions::default()
    };
    RabbitMqServer::start_with(managed).await.map(Some)
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|url| !url.is_empty())
}
