//! The options of a private RabbitMQ server.

use std::path::PathBuf;

/// The options of a private RabbitMQ server. By default its data are removed at the end, and the management plugin is off.
#[derive(Clone, Debug, Default)]
pub struct RabbitMqOptions {
    /// Whether the management plugin (web interface and HTTP API) runs.
    pub management: bool,
    /// The port of AMQP, where it is free; else another port is used.
    pub preferred_port: Option<u16>,
    /// The port of the management plugin, where it is free; else another port is used.
    pub preferred_management_port: Option<u16>,
    /// A directory that keeps the data after the end of the server. Created where it is missing.
    pub directory: Option<PathBuf>,
    /// Further lines of `rabbitmq.conf`, such as `"disk_free_limit.absolute = 1GB"`.
    pub settings: Vec<String>,
}
