//! How a private RabbitMQ is to run.

use std::path::PathBuf;

/// How a private RabbitMQ is to run. The default is short-lived, without the management plugin.
#[derive(Clone, Debug, Default)]
pub struct RabbitMqOptions {
    /// Whether the management plugin (web interface and HTTP API) runs.
    pub management: bool,
    /// The port of AMQP to use where it is free; another one otherwise.
    pub preferred_port: Option<u16>,
    /// The port of the management plugin to use where it is free; another one otherwise.
    pub preferred_management_port: Option<u16>,
    /// A directory that keeps the data beyond the server's life; made where it is missing.
    pub directory: Option<PathBuf>,
    /// More lines of `rabbitmq.conf`, such as `"disk_free_limit.absolute = 1GB"`.
    pub settings: Vec<String>,
}
