use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use broker::{MemoryBudget, Publisher};
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use service_runtime::{link_telemetry::register_link, scraped};
use storage::{OutboxDepth, Recorded};

use crate::in_flight::InFlight;

/// What an operator wants to know of an outbox.
#[derive(Debug, Clone)]
pub struct OutboxTelemetry {
    recorded: IntCounterVec,
    published: IntCounter,
    failed: IntCounter,
    swept: IntCounter,
    unpublished: IntGauge,
    oldest_seconds: Gauge,
    watched: Arc<OnceLock<Watched>>,
}

/// What is looked at when the metrics are scraped.
#[derive(Debug)]
struct Watched {
    in_flight: InFlight,
    budget: MemoryBudget,
    publisher: Arc<dyn Publisher>,
}

const OUTCOMES: [&str; 3] = ["stored", "already_stored", "refused"];

impl OutboxTelemetry {
    /// Registers the metrics, all at zero.
    ///
    /// # Errors
    /// The registry has them already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let recorded = IntCounterVec::new(
            Opts::new("llm_bench_outbox_batches_total", "Batches submitted, by outcome"),
            &["outcome"],
        )?;
        for outcome in OUTCOMES {
            recorded.with_label_values(&[outcome]);
        }
        let metrics = Self {
            recorded,
            published: IntCounter::new(
                "llm_bench_outbox_published_total",
                "Messages that the broker has confirmed; one batch may be published more than once",
            )?,
            failed: IntCounter::new(
                "llm_bench_outbox_publish_failures_total",
                "Publishes that were not confirmed and are left to the sweeper",
            )?,
            swept: IntCounter::new(
                "llm_bench_outbox_swept_total",
                "Batches published by the sweeper instead of at once",
            )?,
            unpublished: IntGauge::new(
                "llm_bench_outbox_unpublished",
                "Batches stored and not yet published",
            )?,
            oldest_seconds: Gauge::new(
                "llm_bench_outbox_oldest_seconds",
                "Age of the oldest unpublished batch",
            )?,
            watched: Arc::default(),
        };
        registry.register(Box::new(metrics.recorded.clone()))?;
        registry.register(Box::new(metrics.published.clone()))?;
        registry.register(Box::new(metrics.failed.clone()))?;
        registry.register(Box::new(metrics.swept.clone()))?;
        registry.register(Box::new(metrics.unpublished.clone()))?;
        registry.register(Box::new(metrics.oldest_seconds.clone()))?;
        metrics.register_scraped(registry)?;
        Ok(metrics)
    }

    fn register_scraped(&self, registry: &Registry) -> prometheus::Result<()> {
        let read = |value: fn(&Watched) -> f64| {
            let watched = Arc::clone(&self.watched);
            move || watched.get().map_or(0.0, value)
        };
        scraped::gauge(
            registry,
            Opts::new(
                "llm_bench_outbox_oldest_in_flight_seconds",
                "How long the oldest batch that this process is publishing has waited to be confirmed and marked",
            ),
            read(|watched| watched.in_flight.oldest().map_or(0.0, |age| age.as_secs_f64())),
        )?;
        scraped::gauge(
            registry,
            Opts::new(
                "llm_bench_outbox_memory_bytes",
                "Estimated bytes of submitted batches that the broker has not answered yet",
            ),
            read(|watched| watched.budget.taken() as f64),
        )?;
        let link = |watched: &OnceLock<Watched>| watched.get().map(|watched| watched.publisher.statistics());
        let [blocked, reconnects] = [&self.watched; 2].map(Arc::clone);
        register_link(
            registry,
            "publishing",
            move || link(&blocked).map_or(Duration::ZERO, |link| link.blocked),
            move || link(&reconnects).map_or(0, |link| link.reconnects),
        )
    }

    /// From here on scrapes show this outbox. There is one for each registry: a second one is not watched.
    pub(crate) fn watch(&self, in_flight: InFlight, budget: MemoryBudget, publisher: Arc<dyn Publisher>) {
        self.watched.get_or_init(|| Watched {
            in_flight,
            budget,
            publisher,
        });
    }

    pub(crate) fn recorded(&self, outcome: &Recorded) {
        let label = match outcome {
            Recorded::Stored => OUTCOMES[0],
            Recorded::AlreadyStored => OUTCOMES[1],
            Recorded::Refused(_) => OUTCOMES[2],
        };
        self.recorded.with_label_values(&[label]).inc();
    }

    pub(crate) fn published(&self) {
        self.published.inc();
    }

    pub(crate) fn publish_failed(&self) {
        self.failed.inc();
    }

    pub(crate) fn swept(&self) {
        self.swept.inc();
    }

    pub(crate) fn depth(&self, depth: OutboxDepth) {
        self.unpublished
            .set(i64::try_from(depth.unpublished).unwrap_or(i64::MAX));
        self.oldest_seconds
            .set(depth.oldest.map_or(0.0, |age| age.as_secs_f64()));
    }
}
