use broker_rabbitmq::{RabbitMqBroker, RabbitMqSettings};
use test_servers::shared_rabbitmq;

pub const QUEUE: &str = "benchmarking_service";

/// A broker on an empty virtual host of the shared server.
pub async fn connected() -> RabbitMqBroker {
    RabbitMqBroker::start(settings(&empty_vhost().await))
}

/// The URL of an empty virtual host.
pub async fn empty_vhost() -> String {
    shared_rabbitmq()
        .await
        .create_vhost()
        .await
        .expect("a virtual host")
}

pub fn settings(url: &str) -> RabbitMqSettings {
    RabbitMqSettings::new(url, QUEUE).expect("the server's own URL")
}
