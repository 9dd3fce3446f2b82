use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::dev::Server;
use broker::Broker;
use outbox::Outbox;
use prometheus::Registry;
use rand::{TryRng, rngs::SysRng};
use service_runtime::{
    health::{CachedPing, ComponentState, Health},
    lifecycle::Lifecycle,
    operations,
};
use shared_types::{Clock, Invalid};
use storage::{Storage, StorageError};

use crate::{Simulation, SimulationSettings, SimulationTelemetry, schedule};

/// What the service works with. Several services of one process share all of it.
#[derive(Debug, Clone)]
pub struct Dependencies {
    /// The database.
    pub storage: Arc<dyn Storage>,
    /// The broker that the outbox publishes to; here only its health is asked for.
    pub broker: Arc<dyn Broker>,
    /// Where the batches go.
    pub outbox: Outbox,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where metrics are registered; `/metrics` shows all of it.
    pub metrics: Registry,
}

/// The simulation service, built and bound but not running.
pub struct Service {
    settings: SimulationSettings,
    dependencies: Dependencies,
    metrics: SimulationTelemetry,
    operations: (Server, SocketAddr),
}

/// Why the service could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The address of health and metrics is taken or not ours.
    #[error("cannot listen on {addr} (SIMULATION_HTTP_ADDR)")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The registry has metrics of this name already.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The database refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A value that should be valid is not.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The system gave no randomness for a seed.
    #[error("drawing a seed")]
    Entropy(#[from] rand::rngs::SysError),
}

impl Service {
    /// Registers metrics and binds the address of health and metrics; touches neither database nor broker.
    ///
    /// # Errors
    /// The address cannot be bound, or the registry has the service's metrics already.
    pub fn build(
        settings: SimulationSettings,
        dependencies: Dependencies,
        life: &Lifecycle,
    ) -> Result<Self, ServiceError> {
        let (addr, registry) = (settings.http_addr, &dependencies.metrics);
        let health = health(life, &dependencies.storage, &dependencies.broker);
        let operations = operations::serve(addr, health, registry.clone())
            .map_err(|source| ServiceError::Bind { addr, source })?;
        Ok(Self {
            metrics: SimulationTelemetry::register(registry)?,
            settings,
            dependencies,
            operations,
        })
    }

    /// Where health and metrics are served.
    #[must_use]
    pub fn operations_addr(&self) -> SocketAddr {
        self.operations.1
    }

    /// Starts the service's tasks; they end with the life.
    pub fn start(self, life: &Lifecycle) {
        let (server, _) = self.operations;
        let (handle, shutdown) = (server.handle(), life.shutdown());
        life.spawn_fallible("simulation operations", server);
        life.spawn("simulation operations' end", async move {
            shutdown.cancelled().await;
            handle.stop(true).await;
        });
        let (settings, dependencies, metrics) = (self.settings, self.dependencies, self.metrics);
        // No tick is begun by a process that is about to end.
        let leaving = life.leaving();
        life.spawn_fallible("simulation", async move {
            let simulation = tokio::select! {
                biased;
                () = leaving.cancelled() => return Ok(()),
                simulation = prepare(&settings, &dependencies) => simulation?,
            };
            schedule::run(simulation, settings.interval, metrics, leaving).await;
            Ok::<_, ServiceError>(())
        });
    }
}

/// Prepares the database and settles the seed. Waits for a database that is away; cancel-safe.
///
/// # Errors
/// The database is there and refuses.
pub async fn prepare(
    settings: &SimulationSettings,
    dependencies: &Dependencies,
) -> Result<Simulation, ServiceError> {
    let Dependencies {
        storage,
        outbox,
        clock,
        ..
    } = dependencies;
    backends::prepare_database(
        storage.as_ref(),
        settings.migrate_at_start,
        &settings.registry,
        clock.as_ref(),
    )
    .await?;
    let seed = match settings.seed {
        Some(seed) => seed,
        None => stored_seed(storage.as_ref(), SysRng.try_next_u64()?).await?,
    };
    tracing::info!(
        simulation.seed = seed,
        "simulating; RANDOM_SEED={seed} repeats these values"
    );
    Ok(Simulation::new(
        Arc::clone(storage),
        outbox.clone(),
        Arc::clone(clock),
        seed,
        settings,
    )?)
}

async fn stored_seed(storage: &dyn Storage, drawn: u64) -> Result<u64, StorageError> {
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        match storage.seed_or_store(drawn).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the database is away; waiting for it"
                );
            }
            settled => return settled,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn health(life: &Lifecycle, storage: &Arc<dyn Storage>, broker: &Arc<dyn Broker>) -> Health {
    let (storage, ping) = (Arc::clone(storage), Arc::new(CachedPing::default()));
    let publisher = broker.publisher();
    Health::of(life)
        .with("database", move || {
            let (storage, ping) = (Arc::clone(&storage), Arc::clone(&ping));
            async move { ping.state(storage.ping()).await }
        })
        .with("broker", move || {
            let link = publisher.link();
            async move { ComponentState::ready_unless(link.unavailable_reason()) }
        })
}
