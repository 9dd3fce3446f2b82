use broker_rabbitmq::{RabbitMqBroker, RabbitMqSettings};
use test_servers::shared_rabbitmq;

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

pub(crate) fn settings(url: &str) -> RabbitMqSettings {
    RabbitMqSettings::new(url, QUEUE).expect("the server's own URL")
}
