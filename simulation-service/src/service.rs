use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::dev::Server;
use broker::{Broker, LinkState};
use outbox::{Outbox, OutboxMetrics, OutboxSettings};
use prometheus::Registry;
use rand::{TryRng, rngs::SysRng};
use service_runtime::{
    health::{ComponentState, Health},
    lifecycle::Lifecycle,
    operations,
};
use shared_types::{Clock, Invalid};
use storage::{Storage, StorageError};

use crate::{Simulation, SimulationMetrics, SimulationSettings, schedule};

/// The simulation service, built and bound but not running.
pub struct Service {
    storage: Arc<dyn Storage>,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    settings: SimulationSettings,
    metrics: SimulationMetrics,
    outbox_metrics: OutboxMetrics,
    operations: (Server, SocketAddr),
}

/// Why the service could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The address of health and metrics is taken or not ours.
    #[error("SIMULATION_HTTP_ADDR: cannot listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Two services registered the same metrics.
    #[error("metrics")]
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
    /// The address cannot be bound.
    pub fn build(
        settings: SimulationSettings,
        storage: Arc<dyn Storage>,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Self, ServiceError> {
        let addr = settings.http_addr;
        let health = health(&storage, &broker);
        let operations = operations::serve(addr, health, registry.clone())
            .map_err(|source| ServiceError::Bind { addr, source })?;
        Ok(Self {
            metrics: SimulationMetrics::register(registry)?,
            outbox_metrics: OutboxMetrics::register(registry)?,
            storage,
            broker,
            clock,
            settings,
            operations,
        })
    }

    /// Where health and metrics are served.
    #[must_use]
    pub fn operations_addr(&self) -> SocketAddr {
        self.operations.1
    }

    /// Starts the service's tasks; they end with the life. With `migrate`, missing migrations are applied first.
    pub fn start(self, life: &Lifecycle, migrate: bool) {
        let outbox = Outbox::start(
            life,
            Arc::clone(&self.storage),
            self.broker.publisher(),
            OutboxSettings::default(),
            self.outbox_metrics.clone(),
        );
        let (server, _) = self.operations;
        let (handle, shutdown) = (server.handle(), life.shutdown());
        life.spawn_fallible("simulation operations", server);
        life.spawn("simulation operations' end", async move {
            shutdown.cancelled().await;
            handle.stop(true).await;
        });
        let parts = (
            self.storage,
            self.clock,
            self.settings,
            self.metrics,
            life.shutdown(),
        );
        life.spawn_fallible("simulation", async move {
            let (storage, clock, settings, metrics, shutdown) = parts;
            let simulation = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                simulation = prepare(storage, outbox, clock, &settings, migrate) => simulation?,
            };
            schedule::run(simulation, settings.interval, metrics, shutdown).await;
            Ok::<_, ServiceError>(())
        });
    }
}

/// Seeds an empty registry and settles the simulation's seed, after the migrations where `migrate` says so. Waits
/// for a database that is away.
///
/// # Errors
/// The database is there and refuses.
pub async fn prepare(
    storage: Arc<dyn Storage>,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    settings: &SimulationSettings,
    migrate: bool,
) -> Result<Simulation, ServiceError> {
    const PAUSE: Duration = Duration::from_secs(1);
    if migrate {
        storage::migrated(storage.as_ref()).await?;
    }
    loop {
        match seeded(&storage, &clock, settings).await {
            Ok(seed) => {
                tracing::info!(
                    simulation.seed = seed,
                    "simulating; RANDOM_SEED={seed} repeats these values"
                );
                return Ok(Simulation::new(storage, outbox, clock, seed, settings)?);
            }
            Err(ServiceError::Storage(error)) if error.is_transient() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "waiting for the database"
                );
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn seeded(
    storage: &Arc<dyn Storage>,
    clock: &Arc<dyn Clock>,
    settings: &SimulationSettings,
) -> Result<u64, ServiceError> {
    storage.seed(&settings.registry, clock.now()).await?;
    match settings.seed {
        Some(seed) => Ok(seed),
        None => Ok(storage.seed_or_store(SysRng.try_next_u64()?).await?),
    }
}

fn health(storage: &Arc<dyn Storage>, broker: &Arc<dyn Broker>) -> Health {
    let (storage, publisher) = (Arc::clone(storage), broker.publisher());
    Health::default()
        .with("database", move || {
            let storage = Arc::clone(&storage);
            async move {
                match storage.ping().await {
                    Ok(()) => ComponentState::Ready,
                    Err(error) => ComponentState::missing(error.to_string()),
                }
            }
        })
        .with("broker", move || {
            let link = publisher.link();
            async move {
                match link {
                    LinkState::Ready => ComponentState::Ready,
                    LinkState::Blocked { reason } => ComponentState::missing(format!("blocked: {reason}")),
                    LinkState::Down { reason } => ComponentState::missing(reason),
                }
            }
        })
}
