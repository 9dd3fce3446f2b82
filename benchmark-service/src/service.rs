use std::{io, net::SocketAddr, sync::Arc};

use actix_web::{App, HttpServer, dev::Server, middleware::from_fn};
use service_runtime::{lifecycle::Lifecycle, link_telemetry::register_link};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use storage::StorageError;
use tokio::sync::Semaphore;

use crate::{
    api::{self, Api, DatabaseDeadline, HttpTelemetry},
    auth::{AccessControl, KeyRing, Limiter},
    consumer::Consumer,
    dependencies::Dependencies,
    housekeeping::{self, HousekeepingTelemetry},
    projector::{Freshness, Projector, Rankings},
    queue_depth::{QueueDepth, register_held_messages},
    settings::{ClientLimits, Settings},
};

/// Why the service could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address is in use, not an address of this machine, or not permitted.
    #[error("cannot listen on {address} (HTTP_ADDR)")]
    Bind {
        /// The address of the setting `HTTP_ADDR`.
        address: SocketAddr,
        /// The error of the system call.
        source: io::Error,
    },
    /// The registry has metrics of this name already.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The OpenAPI document cannot be serialised.
    #[error("the API cannot be described")]
    Document(#[from] serde_json::Error),
}

/// The benchmark service: it listens from the start, and works once it is started.
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
    queue_depth: QueueDepth,
    housekeeping_telemetry: HousekeepingTelemetry,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Binds the address; connections wait until the service is started. All tasks of the service belong to `life`.
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
            telemetry: registry,
            ..
        } = &dependencies;
        let rankings = Arc::new(Rankings::new());
        let consumer = Consumer::new(
            Arc::clone(storage),
            Arc::clone(broker),
            Arc::clone(clock),
            Arc::clone(rankings.refresh_requests()),
            registry,
        )?;
        let (consumer_state, consume_link) = (Arc::clone(consumer.state()), Arc::clone(broker));
        let consuming =
            move || consumer_state.unready_reason().is_none() && consume_link.consume_link().is_ready();
        let (timing, selection) = (settings.timing, settings.default_selection);
        let freshness = Freshness::new(consuming, timing.stale_after);
        let (known, interval) = (Arc::clone(&rankings), timing.rankings_refresh);
        let projector = Projector::new(&dependencies, known, freshness, interval, selection)?;
        let (consumer_state, known) = (Arc::clone(consumer.state()), Arc::clone(&rankings));
        let health = api::health::components(life, &dependencies, consumer_state, known, timing.stale_after);
        let http_telemetry = HttpTelemetry::register(registry)?;
        let access_control = AccessControl::new(&settings.access, settings.rate_limit, Arc::clone(clock));
        let (keys, limiter) = (
            Arc::clone(&access_control.ring),
            Arc::clone(&access_control.limiter),
        );
        let state = state(&settings, &dependencies, rankings, &http_telemetry, life);
        let api = Api::new(state, access_control, http_telemetry, health, registry.clone())?;
        let (server, address) = listen(settings.http_addr, settings.client_limits, api)?;
        let [blocked, reconnects] = [broker; 2].map(Arc::clone);
        register_link(
            registry,
            "consuming",
            move || blocked.consume_statistics().blocked,
            move || reconnects.consume_statistics().reconnects,
        )?;
        register_held_messages(registry, broker)?;
        Ok(Self {
            queue_depth: QueueDepth::register(registry)?,
            housekeeping_telemetry: HousekeepingTelemetry::register(registry)?.with_every_task(),
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

    /// The address on which the service listens; its port is never 0.
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
            queue_depth,
            housekeeping_telemetry,
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
        life.spawn("queue depth", queue_depth.watch(broker, shutdown.clone()));
        let rest_of_life = life.clone();
        life.spawn_fallible("preparation", async move {
            let (migrate, seed) = (settings.migrate_at_start, &settings.registry_seed);
            let clock = dependencies.clock.as_ref();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                prepared = backends::prepare_database(storage.as_ref(), migrate, seed, clock) => prepared?,
            }
            let keys = keys.keep_fresh(storage, settings.timing.key_refresh, shutdown.clone());
            rest_of_life.spawn("api keys", keys);
            housekeeping::start(
                settings.housekeeping,
                &dependencies,
                housekeeping_telemetry,
                &rest_of_life,
            );
            rest_of_life.spawn("rankings", projector.run(shutdown.clone()));
            rest_of_life.spawn_fallible("consumer", consumer.run(shutdown));
            Ok::<(), StorageError>(())
        });
        tracing::info!(http.address = %address, "listening");
    }
}

const MAX_EVENT_STREAMS: usize = 1000;
/// How long the shutdown waits for responses under way, in seconds.
const SHUTDOWN_SECONDS: u64 = 10;

fn state(
    settings: &Settings,
    dependencies: &Dependencies,
    rankings: Arc<Rankings>,
    telemetry: &HttpTelemetry,
    life: &Lifecycle,
) -> api::State {
    api::State {
        storage: Arc::clone(&dependencies.storage),
        outbox: dependencies.outbox.clone(),
        clock: Arc::clone(&dependencies.clock),
        rankings,
        default_selection: settings.default_selection,
        body_deadline: settings.client_limits.body,
        database: DatabaseDeadline(settings.timing.database_deadline),
        event_streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)),
        open_event_streams: telemetry.event_streams.clone(),
        leaving: life.leaving(),
    }
}

fn listen(address: SocketAddr, limits: ClientLimits, api: Api) -> Result<(Server, SocketAddr), BuildError> {
    let cannot_bind = |source| BuildError::Bind { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(cannot_bind)?;
    let bound = listener.local_addr().map_err(cannot_bind)?;
    // Accepted connections inherit the option. actix-web has no timeout for a response that the client does not read.
    #[cfg(target_os = "linux")]
    SockRef::from(&listener)
        .set_tcp_user_timeout(Some(limits.stalled))
        .map_err(cannot_bind)?;
    let server = HttpServer::new(move || {
        let api = api.clone();
        App::new()
            .wrap(from_fn(api::around_every_request))
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
