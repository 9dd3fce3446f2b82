use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, exponential_buckets};
use storage::Refusal;

use crate::telemetry::telemetry;

/// Why a batch was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RejectionKind {
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
    /// The database refuses this message and accepts others.
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

impl From<&Refusal> for RejectionKind {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::UnknownMetric { .. } => Self::UnknownMetric,
            Refusal::OtherUnit { .. } => Self::OtherUnit,
            Refusal::OtherContent { .. } => Self::OtherContent,
            Refusal::TooOld { .. } => Self::TooOld,
        }
    }
}

telemetry! {
    /// The consumer's Prometheus metrics.
    struct ConsumerTelemetry {
        consumed: IntCounter = counter("llm_bench_batches_consumed_total", "Batches that were counted.");
        deduplicated: IntCounter = counter(
            "llm_bench_batches_deduplicated_total",
            "Batches that were counted before: redeliveries."
        );
        redelivered: IntCounter = counter(
            "llm_bench_redelivered_messages_total",
            "Messages that the broker had delivered before, to this consumer or another."
        );
        rejected_by_reason: IntCounterVec = counter_vec(
            "llm_bench_batches_rejected_total",
            "Batches that went to the dead letters (undecodable: messages), by reason.",
            &["reason"]
        );
        commit_seconds: Histogram = histogram(
            "llm_bench_commit_seconds",
            "Time of one transaction: ledger, statistics and commit.",
            exponential_buckets(0.000_5, 2.0, 15)?
        );
        micro_batch_messages: Histogram = histogram(
            "llm_bench_micro_batch_messages",
            "Messages per transaction.",
            exponential_buckets(1.0, 2.0, 8)?
        );
        lag_seconds: Histogram = histogram(
            "llm_bench_batch_lag_seconds",
            "From the creation of a batch (its UUIDv7) to the commit that counts it.",
            exponential_buckets(0.005, 2.0, 18)?
        );
        hold_retries: IntCounter = counter(
            "llm_bench_hold_retries_total",
            "Further attempts to count batches that are held because the database is away or refuses every write."
        );
        holding: IntGauge = gauge(
            "llm_bench_consumer_holding",
            "1 while batches are held because the database is away or refuses every write."
        );
        unsettled: IntCounter = counter(
            "llm_bench_unsettled_deliveries_total",
            "Deliveries whose settlement the broker may not have seen; they come again."
        );
    }
}

impl ConsumerTelemetry {
    /// Has every reason appear on `/metrics` before a batch is rejected for it.
    pub(super) fn with_every_reason(self) -> Self {
        for kind in RejectionKind::ALL {
            self.rejected(kind);
        }
        self
    }

    pub(super) fn rejected(&self, kind: RejectionKind) -> IntCounter {
        self.rejected_by_reason.with_label_values(&[kind.label()])
    }
}
