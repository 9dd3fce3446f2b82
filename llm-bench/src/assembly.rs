use std::sync::Arc;

use broker::Broker;
use outbox::Outbox;
use prometheus::Registry;
use service_runtime::{lifecycle::Lifecycle, operations::metrics_registry};
use shared_types::Clock;
use storage::Storage;

use crate::context::Context;

/// The backends that both services of one process share.
pub(crate) struct Assembly {
    pub life: Lifecycle,
    pub storage: Arc<dyn Storage>,
    pub broker: Arc<dyn Broker>,
    pub outbox: Outbox,
    clock: Arc<dyn Clock>,
    metrics: Registry,
}

impl Assembly {
    /// Connects the backends that the settings name and starts the outbox.
    pub(crate) fn of(context: &Context, storage: Arc<dyn Storage>) -> anyhow::Result<Self> {
        let (life, metrics, broker) = (Lifecycle::new(), metrics_registry()?, context.broker()?);
        let outbox = Outbox::standard(&life, Arc::clone(&storage), broker.publisher(), &metrics)?;
        Ok(Self {
            life,
            storage,
            broker,
            outbox,
            clock: Arc::clone(&context.clock),
            metrics,
        })
    }

    pub(crate) fn for_simulation(&self) -> simulation_service::Dependencies {
        simulation_service::Dependencies {
            storage: Arc::clone(&self.storage),
            broker: Arc::clone(&self.broker),
            outbox: self.outbox.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
        }
    }

    pub(crate) fn for_benchmark(&self) -> benchmark_service::Dependencies {
        benchmark_service::Dependencies {
            storage: Arc::clone(&self.storage),
            broker: Arc::clone(&self.broker),
            outbox: self.outbox.clone(),
            clock: Arc::clone(&self.clock),
            telemetry: self.metrics.clone(),
        }
    }

    /// Shuts every task down and closes the backends.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.life.end();
        let drained = self.life.drained().await;
        self.broker.close().await;
        self.storage.close().await;
        Ok(drained?)
    }
}
