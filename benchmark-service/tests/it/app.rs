//! A whole service on a free port, with its own database and broker, and a client that speaks HTTP to it.

use std::{net::SocketAddr, num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use benchmark_service::{
    AccessPolicy, ClientLimits, Dependencies, HousekeepingSettings, RankingSelection, RateLimit, Service,
    Settings, Timing,
    auth::{ApiKey, Pepper},
};
use broker::{Broker, OutgoingMessage, Publisher};
use broker_in_process::InProcessBroker;
use chrono::{DateTime, Utc};
use outbox::{Outbox, OutboxSettings, OutboxTelemetry};
use reqwest::{Method, RequestBuilder, Response, header};
use serde_json::{Value, json};
use service_runtime::{
    Secret,
    lifecycle::{Lifecycle, ShutdownError},
    operations::metrics_registry,
};
use shared_types::{ManualClock, RegistrySeed};
use storage::{ApiKeyRecord, ApiKeys, Scope, Storage};
use storage_sqlite::{Location, SqliteStorage};
use test_patience::{patience, soon, until};

use crate::faulty::{Fault, FaultyStorage};

/// A key with every scope.
pub(crate) const ADMIN: &str = "the-bootstrap-key-of-the-tests";
const PEPPER: &str = "the pepper of the tests, 32 characters or more";
/// The interval at which the service polls, short so that tests need not wait.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The settings that tests change.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) anonymous_read: bool,
    pub(crate) rate_limit: RateLimit,
    pub(crate) housekeeping: HousekeepingSettings,
    pub(crate) client_limits: ClientLimits,
    pub(crate) timing: Timing,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            anonymous_read: true,
            rate_limit: RateLimit::Off,
            housekeeping: HousekeepingSettings::default(),
            client_limits: ClientLimits::default(),
            // Long enough for a busy machine: nothing becomes stale and no request is late.
            timing: Timing {
                key_refresh: POLL_INTERVAL,
                rankings_refresh: POLL_INTERVAL,
                stale_after: patience(),
                database_deadline: patience(),
            },
        }
    }
}

impl Options {
    pub(crate) fn limited(per_second: u32) -> Self {
        Self {
            rate_limit: RateLimit::Everything(NonZeroU32::new(per_second).unwrap()),
            ..Self::default()
        }
    }

    pub(crate) fn with_keys() -> Self {
        Self {
            anonymous_read: false,
            ..Self::default()
        }
    }

    pub(crate) fn stale_after(stale_after: Duration) -> Self {
        let mut options = Self::default();
        options.timing.stale_after = stale_after;
        options
    }

    pub(crate) fn database_deadline(database_deadline: Duration) -> Self {
        let mut options = Self::default();
        options.timing.database_deadline = database_deadline;
        options
    }
}

pub(crate) struct TestApp {
    pub(crate) address: SocketAddr,
    pub(crate) storage: Arc<FaultyStorage>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) clock: Arc<ManualClock>,
    publisher: Arc<dyn Publisher>,
    client: reqwest::Client,
    pub(crate) life: Lifecycle,
    data: tempfile::TempDir,
}

/// The time at the start of every test.
pub(crate) fn now() -> DateTime<Utc> {
    "2026-05-01T12:30:00Z".parse().unwrap()
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let app = Self::launch(options, None);
        app.until_ready().await;
        app
    }

    pub(crate) async fn until_ready(&self) {
        until("the service is ready", async || {
            self.get("/readyz").await.status() == 200
        })
        .await;
    }

    /// Starts a service that need not become ready: its database may have a fault from the beginning.
    pub(crate) fn launch(options: Options, fault: Option<Fault>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(now()));
        let file = Location::File(data.path().join("test.sqlite"));
        let storage = SqliteStorage::open(file, Arc::clone(&clock) as Arc<_>).unwrap();
        let storage = Arc::new(FaultyStorage::new(storage));
        storage.set(fault);
        let broker: Arc<dyn Broker> = Arc::new(InProcessBroker::with_clock(64, Arc::clone(&clock) as Arc<_>));
        let (life, metrics) = (Lifecycle::new(), metrics_registry().unwrap());
        let shared: Arc<dyn Storage> = Arc::clone(&storage) as Arc<_>;
        let eager = OutboxSettings {
            sweep_interval: POLL_INTERVAL,
            ..OutboxSettings::default()
        };
        let outbox_metrics = OutboxTelemetry::register(&metrics).unwrap();
        let outbox = Outbox::start(
            &life,
            Arc::clone(&shared),
            broker.publisher(),
            eager,
            outbox_metrics,
        );
        let settings = Settings {
            http_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            access: AccessPolicy {
                anonymous_read: options.anonymous_read,
                bootstrap_key: Some(Secret::new(ADMIN.to_owned())),
                pepper: Some(Secret::new(PEPPER.to_owned())),
            },
            default_selection: RankingSelection::default(),
            rate_limit: options.rate_limit,
            client_limits: options.client_limits,
            timing: options.timing,
            registry_seed: RegistrySeed::standard().unwrap(),
            migrate_at_start: true,
            housekeeping: options.housekeeping,
        };
        let dependencies = Dependencies {
            storage: shared,
            broker: Arc::clone(&broker),
            outbox,
            clock: Arc::clone(&clock) as Arc<_>,
            telemetry: metrics,
        };
        let service = Service::build(settings, dependencies, &life).unwrap();
        let address = service.addr();
        service.start();
        Self {
            address,
            storage,
            publisher: broker.publisher(),
            broker,
            clock,
            client: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                // Not reused: the service may close an idle connection at the moment at which it is used again.
                .pool_max_idle_per_host(0)
                .build()
                .unwrap(),
            life,
            data,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// Sends JSON with the key that may do everything.
    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Response {
        self.request(method, path)
            .header("api-key", ADMIN)
            .json(body)
            .send()
            .await
            .unwrap()
    }

    /// Posts a body as it is, as JSON, with the key that may do everything.
    pub(crate) fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.request(Method::POST, path)
            .header("api-key", ADMIN)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
    }

    pub(crate) async fn has_no_dead_letters(&self) -> bool {
        self.broker.dead_letters().list(1).await.unwrap().is_empty()
    }

    /// Puts a body on the queue and waits until the consumer has settled it.
    pub(crate) async fn publish(&self, body: impl Into<Vec<u8>>) {
        let message = outgoing(body.into());
        let settled = soon("the message is settled", self.publisher.publish(&message));
        settled.await.unwrap();
    }

    /// Publishes a batch of simulated values, and waits until the rankings show it.
    pub(crate) async fn publish_and_wait(&self, llm: &str, metric: &str, values: &[f64]) {
        let rows_before = self.counted_values(llm, metric).await;
        self.publish(batch(llm, metric, values).to_string()).await;
        self.until_counted(llm, metric, rows_before + values.len() as u64)
            .await;
    }

    /// Waits until the default ranking shows `n` values.
    pub(crate) async fn until_counted(&self, llm: &str, metric: &str, n: u64) {
        let what = format!("the rankings show {n} values of {llm}, {metric}");
        until(&what, async || self.counted_values(llm, metric).await == n).await;
    }

    /// How many values the default ranking shows.
    pub(crate) async fn counted_values(&self, llm: &str, metric: &str) -> u64 {
        let ranking = self.get_json(&format!("/api/v1/rankings/{metric}")).await;
        let rows = ranking["data"].as_array().unwrap();
        rows.iter()
            .find(|row| row["llm"] == llm)
            .map_or(0, |row| row["n"].as_u64().unwrap())
    }

    /// A stored key with this scope.
    pub(crate) async fn key(&self, scope: Scope) -> String {
        self.key_with(scope, |_| {}).await
    }

    /// A stored key with this scope, its record changed by `change`.
    pub(crate) async fn key_with(&self, scope: Scope, change: impl FnOnce(&mut ApiKeyRecord)) -> String {
        let key = ApiKey::draw(&mut rand::rngs::SysRng).unwrap();
        let mut record = ApiKeyRecord {
            id: key.id().clone(),
            name: scope.as_str().to_owned(),
            scope,
            hash: key.hash(&Pepper::new(&Secret::new(PEPPER.to_owned()))),
            created_at: now(),
            expires_at: None,
            revoked_at: None,
        };
        change(&mut record);
        self.storage.add_api_key(&record).await.unwrap();
        key.expose()
    }

    /// The directory of the database's files.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Waits until a key that was added is accepted.
    pub(crate) async fn until_key_is_accepted(&self, key: &str) {
        until("the new key is known", async || {
            let request = self.request(Method::GET, "/api/v1/llms").header("api-key", key);
            request.send().await.unwrap().status() == 200
        })
        .await;
    }

    pub(crate) async fn metric_value(&self, name: &str) -> f64 {
        let page = self.get("/metrics").await.text().await.unwrap();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in\n{page}"))
            .parse()
            .unwrap()
    }

    /// Waits until the service ends by itself, and returns how it ended.
    pub(crate) async fn crash(self) -> ShutdownError {
        soon("a crash", self.life.shutdown().cancelled()).await;
        self.life.drained().await.unwrap_err()
    }

    /// Ends the service and waits for every task.
    pub(crate) async fn end(self) {
        self.life.end();
        self.life.drained().await.unwrap();
    }
}

/// A simulated batch at the time of the test. Its id is derived from its content.
pub(crate) fn batch(llm: &str, metric: &str, values: &[f64]) -> Value {
    json!({
        "llm_name": llm, "metric": metric, "values": values, "source": "simulated",
        "timestamp": "2026-05-01T12:10:00Z",
    })
}

fn outgoing(body: Vec<u8>) -> OutgoingMessage {
    OutgoingMessage {
        id: uuid::Uuid::from_u128(1).into(),
        llm: String::new(),
        metric: String::new(),
        routing_key: "batch.test.test".to_owned(),
        n: 0,
        timestamp: now(),
        run_id: None,
        content_type: "application/json",
        body: body.into(),
    }
}

/// Asserts that the response is a problem with this status, and returns it.
pub(crate) async fn problem(response: Response, status: u16) -> Value {
    assert_eq!(response.status(), status, "{}", response.url());
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json",
        "{}",
        response.url()
    );
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    assert!(problem["type"].is_string() && problem["title"].is_string() && problem["errors"].is_array());
    problem
}
