use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker::{LinkState, LinkStatistics, OutgoingMessage, PublishError, Publisher};
use chrono::DateTime;
use outbox::{Outbox, OutboxSettings, OutboxTelemetry};
use prometheus::{Registry, TextEncoder};
use service_runtime::lifecycle::Lifecycle;
use shared_types::{
    BatchContent, BatchId, Clock as _, LlmName, MetricBatch, MetricTitle, Provenance, RegistrySeed,
    SystemClock, Values,
};
use storage::{Maintenance as _, Outbox as _, Registry as _, Storage};
use storage_sqlite::{Location, SqliteStorage};
use test_patience::{patience, until};
use tokio::sync::watch;

/// A broker that counts what it is given, and refuses or hangs while it is told to.
#[derive(Debug, Default)]
pub(crate) struct ScriptedPublisher {
    pub(crate) away: AtomicBool,
    pub(crate) hanging: watch::Sender<bool>,
    pub(crate) statistics: Mutex<LinkStatistics>,
    unconfirmed: Mutex<BTreeSet<BatchId>>,
    attempts: Mutex<BTreeMap<BatchId, usize>>,
    received: Mutex<BTreeMap<BatchId, usize>>,
    held: Mutex<Held>,
}

/// Bytes of the values and messages of what is being published.
#[derive(Debug, Default)]
struct Held {
    now: usize,
    peak: usize,
}

impl ScriptedPublisher {
    pub(crate) fn hang(&self) {
        self.hanging.send_replace(true);
    }

    pub(crate) fn go_on(&self) {
        self.hanging.send_replace(false);
    }

    /// Whoever publishes this batch waits for ever.
    pub(crate) fn never_confirm(&self, batch: &MetricBatch) {
        self.unconfirmed.lock().unwrap().insert(batch.id());
    }

    /// What is being published now, and the most that ever was.
    pub(crate) fn held(&self) -> (usize, usize) {
        let held = self.held.lock().unwrap();
        (held.now, held.peak)
    }

    pub(crate) fn received(&self) -> BTreeMap<BatchId, usize> {
        self.received.lock().unwrap().clone()
    }
}

#[async_trait]
impl Publisher for ScriptedPublisher {
    async fn publish(&self, message: &OutgoingMessage) -> Result<(), PublishError> {
        *self.attempts.lock().unwrap().entry(message.id).or_default() += 1;
        if self.away.load(Ordering::SeqCst) {
            return Err(PublishError::Unavailable {
                reason: "told to be away".to_owned(),
            });
        }
        let is_confirmed = !self.unconfirmed.lock().unwrap().contains(&message.id);
        if !is_confirmed {
            return std::future::pending().await;
        }
        let bytes = message.body.len() + message.n * size_of::<f64>();
        {
            let mut held = self.held.lock().unwrap();
            held.now += bytes;
            held.peak = held.peak.max(held.now);
        }
        // The sender is this publisher's own.
        self.hanging
            .subscribe()
            .wait_for(|hanging| !hanging)
            .await
            .unwrap();
        self.held.lock().unwrap().now -= bytes;
        *self.received.lock().unwrap().entry(message.id).or_default() += 1;
        Ok(())
    }

    fn link(&self) -> LinkState {
        LinkState::Ready
    }

    fn statistics(&self) -> LinkStatistics {
        *self.statistics.lock().unwrap()
    }
}

pub(crate) struct Bench {
    pub(crate) storage: Arc<SqliteStorage>,
    pub(crate) publisher: Arc<ScriptedPublisher>,
    pub(crate) life: Lifecycle,
    pub(crate) outbox: Outbox,
    metrics: Registry,
}

impl Bench {
    pub(crate) async fn unpublished(&self) -> u64 {
        self.storage.outbox_depth().await.unwrap().unpublished
    }

    /// Batches that were submitted and stored. Those who submitted them have gone on since, up to where they have to wait.
    pub(crate) fn submitted(&self) -> f64 {
        self.metric("llm_bench_outbox_batches_total{outcome=\"stored\"}")
    }

    /// Publishes that were begun.
    pub(crate) fn attempts(&self) -> usize {
        self.publisher.attempts.lock().unwrap().values().sum()
    }

    /// Publishes of this batch that were begun.
    pub(crate) fn attempts_of(&self, batch: &MetricBatch) -> usize {
        let attempts = self.publisher.attempts.lock().unwrap();
        attempts.get(&batch.id()).copied().unwrap_or(0)
    }

    /// The value of a metric, by the line that begins with this.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = TextEncoder::new()
            .encode_to_string(&self.metrics.gather())
            .unwrap();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}"))
            .parse()
            .unwrap()
    }
}

pub(crate) fn eager() -> OutboxSettings {
    OutboxSettings {
        grace: Duration::from_millis(50),
        lease: Duration::from_millis(100),
        sweep_interval: Duration::from_millis(20),
        drain: Duration::from_millis(100),
        ..OutboxSettings::default()
    }
}

/// The sweeper takes what is still on its way only after a time that no publish here takes, so that each is published once.
pub(crate) fn unhurried() -> OutboxSettings {
    OutboxSettings {
        grace: patience(),
        ..OutboxSettings::default()
    }
}

pub(crate) async fn bench(settings: OutboxSettings) -> Bench {
    let storage = Arc::new(SqliteStorage::open(Location::Ephemeral, Arc::new(SystemClock)).unwrap());
    storage.migrate().await.unwrap();
    let seed = RegistrySeed::standard().unwrap();
    storage.seed(&seed, SystemClock.now()).await.unwrap();
    let (publisher, life) = (Arc::new(ScriptedPublisher::default()), Lifecycle::new());
    let metrics = Registry::new();
    let outbox = Outbox::start(
        &life,
        Arc::clone(&storage) as Arc<dyn Storage>,
        Arc::clone(&publisher) as Arc<dyn Publisher>,
        settings,
        OutboxTelemetry::register(&metrics).unwrap(),
    );
    Bench {
        storage,
        publisher,
        life,
        outbox,
        metrics,
    }
}

pub(crate) fn batch(number: u32, metric: &str) -> MetricBatch {
    batch_of(vec![f64::from(number)], metric)
}

/// The `number`th of batches with so many values.
pub(crate) fn large_batch(number: u32, values: usize) -> MetricBatch {
    batch_of(vec![f64::from(number) + 1.0 / 3.0; values], "ttft")
}

fn batch_of(values: Vec<f64>, metric: &str) -> MetricBatch {
    MetricBatch::with_derived_id(BatchContent {
        llm: LlmName::new("GPT-4o").unwrap(),
        metric: MetricTitle::new(metric).unwrap(),
        unit: None,
        values: Values::new(values).unwrap(),
        timestamp: DateTime::UNIX_EPOCH,
        provenance: Provenance::imported(),
    })
}

pub(crate) async fn until_empty(bench: &Bench) {
    until("an empty outbox", async || bench.unpublished().await == 0).await;
}
