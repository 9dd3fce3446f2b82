use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use storage::{OutboxDepth, Recorded};

/// What an operator wants to know of an outbox.
#[derive(Debug, Clone)]
pub struct OutboxMetrics {
    recorded: IntCounterVec,
    published: IntCounter,
    failed: IntCounter,
    swept: IntCounter,
    unpublished: IntGauge,
    oldest_seconds: Gauge,
}

const OUTCOMES: [&str; 3] = ["stored", "already_stored", "refused"];

impl OutboxMetrics {
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
        };
        registry.register(Box::new(metrics.recorded.clone()))?;
        registry.register(Box::new(metrics.published.clone()))?;
        registry.register(Box::new(metrics.failed.clone()))?;
        registry.register(Box::new(metrics.swept.clone()))?;
        registry.register(Box::new(metrics.unpublished.clone()))?;
        registry.register(Box::new(metrics.oldest_seconds.clone()))?;
        Ok(metrics)
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

    pub(crate) fn swept(&self, batches: usize) {
        self.swept.inc_by(batches as u64);
    }

    pub(crate) fn depth(&self, depth: OutboxDepth) {
        self.unpublished
            .set(i64::try_from(depth.unpublished).unwrap_or(i64::MAX));
        self.oldest_seconds
            .set(depth.oldest.map_or(0.0, |age| age.as_secs_f64()));
    }
}
