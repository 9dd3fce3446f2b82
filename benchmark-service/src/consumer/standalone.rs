use std::sync::Arc;

use broker::Broker;
use prometheus::Registry;
use shared_types::Clock;
use storage::Storage;

use crate::{
    consumer::{Consumer, ConsumerState},
    metrics::ConsumerMetrics,
    projector::Rankings,
};

impl Consumer {
    /// A consumer without the rest of the service: it counts and acknowledges as in production, and no projector
    /// hears of its commits. This is what the deterministic simulation runs.
    ///
    /// # Errors
    /// The registry has a consumer's metrics already.
    pub fn standalone(
        storage: Arc<dyn Storage>,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            storage,
            broker,
            clock,
            rankings: Arc::new(Rankings::new()),
            state: Arc::new(ConsumerState::default()),
            metrics: ConsumerMetrics::register(registry)?,
        })
    }
}
