use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{App, HttpServer, dev::Server, middleware::from_fn};
use broker::Broker;
use outbox::Outbox;
use prometheus::Registry;
use service_runtime::lifecycle::{EndedBadly, Lifecycle};
use shared_types::Clock;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use storage::{Storage, StorageError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Api, DatabaseDeadline, gate},
    auth::{Gatekeeper, KeyRing, Limiter},
    consumer::{Consumer, ConsumerState, Consumption},
    housekeeping::{self, HousekeepingMetrics},
    metrics::{ConsumerMetrics, HttpMetrics, QueueMetrics, register_holdings, register_snapshot},
    projector::{Freshness, Projector, Rankings},
    settings::{ClientLimits, Settings},
};

/// What the service works with. Several services of one process share all of it.
#[derive(Debug, Clone)]
pub struct Dependencies {
    /// The database.
    pub storage: Arc<dyn Storage>,
    /// The broker whose queue is consumed.
    pub broker: Arc<dyn Broker>,
    /// Where batches that are sent to the API go.
    pub outbox: Outbox,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where metrics are registered; `/metrics` shows all of it.
    pub metrics: Registry,
}

/// Why the service could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address is taken, not ours, or not permitted.
    #[error("cannot listen on {address} (HTTP_ADDR)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The registry has metrics of this name already.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The OpenAPI document cannot be serialised.
    #[error("the API cannot be described")]
    Document(#[from] serde_json::Error),
}

/// The benchmark service: it listens, and works once it is started.
pub struct Service {
    settings: Settings,
    dependencies: Dependencies,
    life: Lifecycle,
    address: SocketAddr,
    server: Server,
    keys: Arc<KeyRing>,
    limiter: Arc<Limiter>,
    projector: Projector,
    consumer: Consumer,
    queue_metrics: QueueMetrics,
    housekeeping_metrics: HousekeepingMetrics,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Binds the address; connections wait until the service is started. Everything it starts belongs to `life`.
    ///
    /// # Errors
    /// The address cannot be bound, or the registry has the service's metrics already.
    pub fn build(
        settings: Settings,
        dependencies: Dependencies,
        life: &Lifecycle,
    ) -> Result<Self, BuildError> {
        let Dependencies {
            storage,
            broker,
            clock,
            metrics: registry,
            ..
        } = &dependencies;
        let rankings = Arc::new(Rankings::new());
        let consumer_state = Arc::new(ConsumerState::default());
        let http_metrics = HttpMetrics::register(registry)?;
        let gatekeeper = Gatekeeper::new(&settings.access, settings.rate_limit, Arc::clone(clock));
        let (keys, limiter) = (Arc::clone(&gatekeeper.ring), Arc::clone(&gatekeeper.limiter));
        let state = state(&settings, &dependencies, &rankings, &http_metrics, life);
        let health = api::health::components(
            life,
            Arc::clone(storage),
            broker,
            Arc::clone(&consumer_state),
            Arc::clone(&rankings),
            settings.timing.stale_after,
        );
        let api = Api::new(state, gatekeeper, http_metrics, health, registry.clone())?;
        let (server, address) = listen(settings.http_addr, settings.client_limits, api)?;
        let consumption = Consumption {
            state: Arc::clone(&consumer_state),
            broker: Arc::clone(broker),
        };
        let projector = Projector::new(
            Arc::clone(storage),
            Arc::clone(clock),
            Arc::clone(&rankings),
            Freshness::new(Some(consumption), settings.timing.stale_after),
            settings.timing.rankings_refresh,
            settings.default_selection,
            register_snapshot(registry, &rankings)?,
        );
        let consume_link = Arc::clone(broker);
        outbox::register_link(registry, "consuming", move || consume_link.consume_statistics())?;
        register_holdings(registry, broker)?;
        let consumer = Consumer {
            storage: Arc::clone(storage),
            broker: Arc::clone(broker),
            clock: Arc::clone(clock),
            rankings,
            state: consumer_state,
            metrics: ConsumerMetrics::register(registry)?,
        };
        Ok(Self {
            queue_metrics: QueueMetrics::register(registry)?,
            housekeeping_metrics: HousekeepingMetrics::register(registry)?,
            settings,
            life: life.clone(),
            address,
            server,
            keys,
            limiter,
            projector,
            consumer,
            dependencies,
        })
    }

    /// Where the service listens: with the port that the system chose, where the setting says 0.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Starts the tasks of the service; they end with its life.
    pub fn start(self) {
        let Self {
            settings,
            dependencies,
            life,
            address,
            server,
            keys,
            limiter,
            projector,
            consumer,
            queue_metrics,
            housekeeping_metrics,
        } = self;
        let (storage, broker) = (
            Arc::clone(&dependencies.storage),
            Arc::clone(&dependencies.broker),
        );
        let shutdown = life.shutdown();
        let (handle, stop) = (server.handle(), shutdown.clone());
        life.spawn_fallible("http server", server);
        life.spawn("http server's end", async move {
            stop.cancelled().await;
            handle.stop(true).await;
        });
        life.spawn("rate limiter", limiter.sweep(shutdown.clone()));
        life.spawn(
            "queue depth",
            watch_queue(broker, queue_metrics, shutdown.clone()),
        );
        let rest_of_life = life.clone();
        life.spawn_fallible("preparation", async move {
            let (migrate, seed) = (settings.migrate_at_start, &settings.registry_seed);
            let clock = dependencies.clock.as_ref();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                prepared = storage::prepared(storage.as_ref(), migrate, seed, clock) => prepared?,
            }
            let keys = keys.keep_fresh(storage, settings.timing.key_refresh, shutdown.clone());
            rest_of_life.spawn("api keys", keys);
            housekeeping::start(
                settings.housekeeping,
                &dependencies,
                housekeeping_metrics,
                &rest_of_life,
            );
            rest_of_life.spawn("rankings", projector.run(shutdown.clone()));
            rest_of_life.spawn_fallible("consumer", consumer.run(shutdown));
            Ok::<(), StorageError>(())
        });
        tracing::info!(http.address = %address, "listening");
    }

    /// Starts, and runs until the life ends and every task has.
    ///
    /// # Errors
    /// A task crashed, or did not end in time.
    pub async fn run(self) -> Result<(), EndedBadly> {
        let life = self.life.clone();
        self.start();
        life.shutdown().cancelled().await;
        life.drained().await
    }
}

const MAX_EVENT_STREAMS: usize = 1000;
/// How long the end waits for answers under way, in seconds.
const SHUTDOWN_SECONDS: u64 = 10;

fn state(
    settings: &Settings,
    dependencies: &Dependencies,
    rankings: &Arc<Rankings>,
    metrics: &HttpMetrics,
    life: &Lifecycle,
) -> api::State {
    api::State {
        storage: Arc::clone(&dependencies.storage),
        outbox: dependencies.outbox.clone(),
        clock: Arc::clone(&dependencies.clock),
        rankings: Arc::clone(rankings),
        default_selection: settings.default_selection,
        body_deadline: settings.client_limits.body,
        database: DatabaseDeadline(settings.timing.database_deadline),
        event_streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)),
        open_event_streams: metrics.event_streams.clone(),
        leaving: life.leaving(),
    }
}

fn listen(address: SocketAddr, limits: ClientLimits, api: Api) -> Result<(Server, SocketAddr), BuildError> {
    let cannot_bind = |source| BuildError::Bind { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(cannot_bind)?;
    let bound = listener.local_addr().map_err(cannot_bind)?;
    // Accepted connections inherit it. actix-web has no timer for an answer that nobody reads.
    #[cfg(target_os = "linux")]
    SockRef::from(&listener)
        .set_tcp_user_timeout(Some(limits.stalled))
        .map_err(cannot_bind)?;
    let server = HttpServer::new(move || {
        let api = api.clone();
        App::new()
            .wrap(from_fn(gate))
            .configure(move |config| api.configure(config))
    })
    .max_connections(limits.connections)
    .keep_alive(limits.keep_alive)
    .client_request_timeout(limits.head)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .disable_signals()
    .listen(listener)
    .map_err(cannot_bind)?;
    Ok((server.run(), bound))
}

/// Asks the broker for the depth of its queues every few seconds. A broker that cannot be asked keeps the last
/// depth: its absence is seen on `/readyz`.
async fn watch_queue(broker: Arc<dyn Broker>, metrics: QueueMetrics, shutdown: CancellationToken) {
    const INTERVAL: Duration = Duration::from_secs(5);
    let depth = |messages| i64::try_from(messages).unwrap_or(i64::MAX);
    loop {
        let asked = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            asked = broker.info() => asked,
        };
        match asked {
            Ok(info) => {
                metrics.queued.set(depth(info.queued));
                metrics.dead.set(depth(info.dead));
            }
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the broker cannot be asked for the depth of its queues"
            ),
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
