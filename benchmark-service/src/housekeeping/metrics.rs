use prometheus::{IntCounter, IntGauge, Registry};

use crate::metrics::{counter, gauge};

/// What housekeeping found and did. Counters start at zero.
#[derive(Debug, Clone)]
pub(crate) struct HousekeepingMetrics {
    pub(crate) requeued: IntCounter,
    pub(crate) uncounted: IntGauge,
    pub(crate) audited: IntCounter,
    pub(crate) mismatches: IntGauge,
    pub(crate) pruned: IntCounter,
    pub(crate) held_back: IntGauge,
    pub(crate) failures: IntCounter,
}

impl HousekeepingMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            requeued: counter(
                registry,
                "llm_bench_reconcile_requeued_total",
                "Batches that were stored, overdue and not counted, and were sent again.",
            )?,
            uncounted: gauge(
                registry,
                "llm_bench_reconcile_uncounted",
                "Batches that are stored, overdue and not counted, as of the last pass.",
            )?,
            audited: counter(
                registry,
                "llm_bench_audited_batches_total",
                "Batches that were folded again to check the statistics.",
            )?,
            mismatches: gauge(
                registry,
                "llm_bench_reconcile_mismatches",
                "Statistics rows that are not what the batches say: of the last full audit, or of the one under way \
                 where it has found more.",
            )?,
            pruned: counter(
                registry,
                "llm_bench_pruned_batches_total",
                "Batches that were deleted because they are older than the retention.",
            )?,
            held_back: gauge(
                registry,
                "llm_bench_retention_held_back_hours",
                "Hours of batches that are older than the retention and are kept, because one of them is not counted.",
            )?,
            failures: counter(
                registry,
                "llm_bench_housekeeping_failures_total",
                "Passes of housekeeping that were given up; the next one goes on.",
            )?,
        })
    }
}
