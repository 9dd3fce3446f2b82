use std::sync::Arc;

use broker::Broker;
use outbox::Outbox;
use shared_types::Clock;
use storage::Storage;

/// What the service works with. Several services of one process share all of it.
#[derive(Debug, Clone)]
pub struct Dependencies {
    /// The database.
    pub storage: Arc<dyn Storage>,
    /// The broker whose queue is consumed.
    pub broker: Arc<dyn Broker>,
    /// Stores and publishes the batches that are sent to the API.
    pub outbox: Outbox,
    /// Gives the current time.
    pub clock: Arc<dyn Clock>,
    /// The Prometheus metrics of the process; `/metrics` shows all of them.
    pub telemetry: prometheus::Registry,
}
