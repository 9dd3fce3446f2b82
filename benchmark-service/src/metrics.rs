//! What an operator can see on `/metrics`.

use std::sync::Arc;

use broker::{Broker, Holdings};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use service_runtime::scraped;

use crate::projector::Rankings;

/// Why a batch was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RejectionKind {
    /// The message is not a batch.
    Undecodable,
    /// The batch names a metric that is not in the registry.
    UnknownMetric,
    /// The batch states another unit than the registry.
    OtherUnit,
    /// Another batch is stored under the same id.
    OtherContent,
    /// The batch is older than what is kept, so whether it was counted before is unknown.
    TooOld,
    /// The database refuses this message and takes others.
    StorageFault,
}

impl RejectionKind {
    const ALL: [Self; 6] = [
        Self::Undecodable,
        Self::UnknownMetric,
        Self::OtherUnit,
        Self::OtherContent,
        Self::TooOld,
        Self::StorageFault,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::UnknownMetric => "unknown_metric",
            Self::OtherUnit => "other_unit",
            Self::OtherContent => "other_content",
            Self::TooOld => "too_old",
            Self::StorageFault => "storage_fault",
        }
    }
}

/// The consumer's metrics. All start at zero.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerMetrics {
    pub(crate) consumed: IntCounter,
    pub(crate) deduplicated: IntCounter,
    pub(crate) redelivered: IntCounter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) micro_batch_messages: Histogram,
    pub(crate) lag_seconds: Histogram,
    pub(crate) hold_retries: IntCounter,
    pub(crate) holding: IntGauge,
    pub(crate) unsettled: IntCounter,
    rejected: IntCounterVec,
}

impl ConsumerMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let rejected = IntCounterVec::new(
            Opts::new(
                "llm_bench_batches_rejected_total",
                "Batches that went to the dead letters (undecodable: messages), by reason.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(rejected.clone()))?;
        for kind in RejectionKind::ALL {
            rejected.with_label_values(&[kind.label()]);
        }
        Ok(Self {
            consumed: counter(
                registry,
                "llm_bench_batches_consumed_total",
                "Batches that were counted.",
            )?,
            deduplicated: counter(
                registry,
                "llm_bench_batches_deduplicated_total",
                "Batches that were counted before: redeliveries.",
            )?,
            redelivered: counter(
                registry,
                "llm_bench_redelivered_messages_total",
                "Messages that the broker had delivered before, to this consumer or another.",
            )?,
            commit_seconds: histogram(
                registry,
                "llm_bench_commit_seconds",
                "Time of one transaction: ledger, statistics and commit.",
                prometheus::exponential_buckets(0.000_5, 2.0, 15)?,
            )?,
            micro_batch_messages: histogram(
                registry,
                "llm_bench_micro_batch_messages",
                "Messages per transaction.",
                prometheus::exponential_buckets(1.0, 2.0, 8)?,
            )?,
            lag_seconds: histogram(
                registry,
                "llm_bench_batch_lag_seconds",
                "From the creation of a batch (its UUIDv7) to the commit that counts it.",
                prometheus::exponential_buckets(0.005, 2.0, 18)?,
            )?,
            hold_retries: counter(
                registry,
                "llm_bench_hold_retries_total",
                "Further attempts to count batches that are held because the database is away or refuses every write.",
            )?,
            holding: gauge(
                registry,
                "llm_bench_consumer_holding",
                "1 while batches are held because the database is away or refuses every write.",
            )?,
            unsettled: counter(
                registry,
                "llm_bench_unsettled_deliveries_total",
                "Deliveries whose settlement the broker may not have seen; they come again.",
            )?,
            rejected,
        })
    }

    pub(crate) fn rejected(&self, kind: RejectionKind) -> IntCounter {
        self.rejected.with_label_values(&[kind.label()])
    }
}

/// The depth of the broker's queues, as last asked.
#[derive(Debug, Clone)]
pub(crate) struct QueueMetrics {
    pub(crate) queued: IntGauge,
    pub(crate) dead: IntGauge,
}

impl QueueMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            queued: gauge(
                registry,
                "llm_bench_queue_messages",
                "Messages that wait in the queue of batches.",
            )?,
            dead: gauge(
                registry,
                "llm_bench_dead_letter_messages",
                "Messages in the queue of dead letters.",
            )?,
        })
    }
}

/// HTTP requests by route.
#[derive(Debug, Clone)]
pub(crate) struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    pub(crate) event_streams: IntGauge,
}

impl HttpMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "llm_bench_http_requests_total",
                "HTTP requests, by route, method and status.",
            ),
            &["route", "method", "status"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "llm_bench_http_seconds",
                "Time until the answer's head, by route.",
            )
            .buckets(prometheus::exponential_buckets(0.000_1, 4.0, 9)?),
            &["route"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            requests,
            seconds,
            event_streams: gauge(
                registry,
                "llm_bench_event_streams",
                "Open streams of /api/v1/events.",
            )?,
        })
    }

    /// The metrics of one route, looked up once.
    pub(crate) fn route(&self, route: &'static str) -> RouteMetrics {
        RouteMetrics {
            route,
            get_ok: self.requests.with_label_values(&[route, "GET", "200"]),
            seconds: self.seconds.with_label_values(&[route]),
            requests: self.requests.clone(),
        }
    }
}

/// The metrics of one route.
#[derive(Debug, Clone)]
pub(crate) struct RouteMetrics {
    route: &'static str,
    get_ok: IntCounter,
    seconds: Histogram,
    requests: IntCounterVec,
}

impl RouteMetrics {
    pub(crate) fn observe(
        &self,
        method: &actix_web::http::Method,
        status: actix_web::http::StatusCode,
        elapsed: std::time::Duration,
    ) {
        use actix_web::http::{Method, StatusCode};
        self.seconds.observe(elapsed.as_secs_f64());
        if status == StatusCode::OK && method == Method::GET {
            return self.get_ok.inc();
        }
        // Methods are any token of the client's choice; labels must stay few.
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        self.requests
            .with_label_values(&[self.route, method, status.as_str()])
            .inc();
    }
}

/// The projector's failures, and the age and staleness of the snapshot at the moment of the scrape.
pub(crate) fn register_snapshot(
    registry: &Registry,
    rankings: &Arc<Rankings>,
) -> prometheus::Result<IntCounter> {
    registry.register(Box::new(SnapshotAge::new(Arc::clone(rankings))?))?;
    counter(
        registry,
        "llm_bench_snapshot_failures_total",
        "Refreshes of the rankings that failed.",
    )
}

/// What the consumer holds of the broker's, at the moment of the scrape.
pub(crate) fn register_holdings(registry: &Registry, broker: &Arc<dyn Broker>) -> prometheus::Result<()> {
    type Read = fn(Holdings) -> u64;
    let gauges: [(_, _, Read); 3] = [
        (
            "llm_bench_consumer_held_bytes",
            "Bytes of the messages that the broker has delivered and that are not settled.",
            |holdings| holdings.bytes,
        ),
        (
            "llm_bench_consumer_held_messages",
            "Messages that the broker has delivered and that are not settled.",
            |holdings| holdings.deliveries,
        ),
        (
            "llm_bench_consumer_prefetch_messages",
            "Unsettled messages that the broker may deliver at this moment; it follows the sizes of what came lately.",
            |holdings| holdings.prefetch,
        ),
    ];
    for (name, help, value) in gauges {
        let broker = Arc::clone(broker);
        let read = move || value(broker.holdings()) as f64;
        scraped::gauge(registry, Opts::new(name, help), read)?;
    }
    Ok(())
}

struct SnapshotAge {
    age: prometheus::Gauge,
    stale: prometheus::Gauge,
    rankings: Arc<Rankings>,
}

impl SnapshotAge {
    fn new(rankings: Arc<Rankings>) -> prometheus::Result<Self> {
        let age = prometheus::Gauge::new(
            "llm_bench_snapshot_age_seconds",
            "Time since the rankings were last known to be what the database says; NaN before the first time.",
        )?;
        let stale = prometheus::Gauge::new(
            "llm_bench_snapshot_stale",
            "1 while rankings are served that call themselves stale: the database or the consumer is away.",
        )?;
        Ok(Self { age, stale, rankings })
    }
}

impl Collector for SnapshotAge {
    fn desc(&self) -> Vec<&Desc> {
        [self.age.desc(), self.stale.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let age = self.rankings.age();
        self.age.set(age.map_or(f64::NAN, |age| age.as_secs_f64()));
        self.stale.set(f64::from(u8::from(self.rankings.load().stale)));
        [self.age.collect(), self.stale.collect()].concat()
    }
}

pub(crate) fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

pub(crate) fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: Vec<f64>,
) -> prometheus::Result<Histogram> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}
