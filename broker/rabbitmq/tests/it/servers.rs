use broker_rabbitmq::{RabbitMqBroker, RabbitMqSettings};
use test_patience::patience;
use test_servers::{RabbitMqOptions, RabbitMqServer, shared_rabbitmq};

pub(crate) const QUEUE: &str = "benchmarking_service";

/// A broker on an empty virtual host of the shared server.
pub(crate) async fn connected() -> RabbitMqBroker {
    connect_to(&empty_vhost().await)
}

pub(crate) fn connect_to(url: &str) -> RabbitMqBroker {
    RabbitMqBroker::start(settings(url))
}

/// The URL of an empty virtual host.
pub(crate) async fn empty_vhost() -> String {
    shared_rabbitmq()
        .await
        .create_vhost()
        .await
        .expect("a virtual host")
}

/// Settings with time limits that only a fault exceeds, on a slow and busy machine too.
pub(crate) fn settings(url: &str) -> RabbitMqSettings {
    let mut settings = default_settings(url);
    settings.connect_timeout = patience();
    settings.publish_timeout = patience();
    settings.heartbeat_seconds = 60;
    settings
}

/// Settings with the default time limits, for faults that are detected by a time limit.
pub(crate) fn default_settings(url: &str) -> RabbitMqSettings {
    RabbitMqSettings::new(url, QUEUE).expect("the server's own URL")
}

/// A private server, into which the test injects faults. It has the management plugin, which creates virtual hosts quickly.
pub(crate) async fn private_server() -> RabbitMqServer {
    let options = RabbitMqOptions {
        management: true,
        ..RabbitMqOptions::default()
    };
    RabbitMqServer::start_with(options)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}
