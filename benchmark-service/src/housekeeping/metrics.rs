use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};
use storage::StorageError;

use crate::metrics::{counter, gauge};

/// What housekeeping does, each duty at its own pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Sends stored batches again that are overdue.
    Requeue,
    /// Folds stored batches again and compares.
    Audit,
    /// Deletes what is older than the retention.
    Prune,
}

impl Duty {
    const ALL: [Self; 3] = [Self::Requeue, Self::Audit, Self::Prune];

    fn label(self) -> &'static str {
        match self {
            Self::Requeue => "requeue",
            Self::Audit => "audit",
            Self::Prune => "prune",
        }
    }
}

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
    failing: IntGaugeVec,
}

impl HousekeepingMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let failing = IntGaugeVec::new(
            Opts::new(
                "llm_bench_housekeeping_failing",
                "1 while the last pass of a duty (requeue, audit, prune) was given up.",
            ),
            &["duty"],
        )?;
        registry.register(Box::new(failing.clone()))?;
        for duty in Duty::ALL {
            failing.with_label_values(&[duty.label()]);
        }
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
            failing,
        })
    }

    /// Notes and logs how a pass of a duty has ended.
    pub(crate) fn note(&self, duty: Duty, done: &Result<(), StorageError>) {
        let failing = self.failing.with_label_values(&[duty.label()]);
        failing.set(done.is_err().into());
        if let Err(error) = done {
            self.failures.inc();
            tracing::warn!(
                error = error as &dyn std::error::Error,
                duty = duty.label(),
                "a pass of housekeeping was given up; the next one goes on"
            );
        }
    }

    #[cfg(test)]
    pub(crate) fn is_failing(&self, duty: Duty) -> bool {
        self.failing.with_label_values(&[duty.label()]).get() == 1
    }
}
