use prometheus::{
    IntCounter, IntGauge, IntGaugeVec, Registry, register_int_counter_with_registry as counter,
    register_int_gauge_vec_with_registry as gauge_vec, register_int_gauge_with_registry as gauge,
};
use storage::StorageError;

/// What housekeeping does, each duty at its own pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HousekeepingTask {
    /// Sends stored batches again that are overdue.
    Requeue,
    /// Folds stored batches again and compares.
    Audit,
    /// Deletes what is older than the retention.
    Prune,
}

impl HousekeepingTask {
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
pub(crate) struct HousekeepingTelemetry {
    pub(crate) requeued: IntCounter,
    pub(crate) uncounted: IntGauge,
    pub(crate) audited: IntCounter,
    pub(crate) mismatches: IntGauge,
    pub(crate) pruned: IntCounter,
    pub(crate) held_back: IntGauge,
    pub(crate) failures: IntCounter,
    failing: IntGaugeVec,
}

impl HousekeepingTelemetry {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let failing = gauge_vec!(
            "llm_bench_housekeeping_failing",
            "1 while the last pass of a duty (requeue, audit, prune) was given up.",
            &["duty"],
            registry
        )?;
        for task in HousekeepingTask::ALL {
            failing.with_label_values(&[task.label()]);
        }
        Ok(Self {
            requeued: counter!(
                "llm_bench_reconcile_requeued_total",
                "Batches that were stored, overdue and not counted, and were sent again.",
                registry
            )?,
            uncounted: gauge!(
                "llm_bench_reconcile_uncounted",
                "Batches that are stored, overdue and not counted, as of the last pass.",
                registry
            )?,
            audited: counter!(
                "llm_bench_audited_batches_total",
                "Batches that were folded again to check the statistics.",
                registry
            )?,
            mismatches: gauge!(
                "llm_bench_reconcile_mismatches",
                "Statistics rows that are not what the batches say: of the last full audit, or of the one under way \
                 where it has found more.",
                registry
            )?,
            pruned: counter!(
                "llm_bench_pruned_batches_total",
                "Batches that were deleted because they are older than the retention.",
                registry
            )?,
            held_back: gauge!(
                "llm_bench_retention_held_back_hours",
                "Hours of batches that are older than the retention and are kept, because one of them is not counted.",
                registry
            )?,
            failures: counter!(
                "llm_bench_housekeeping_failures_total",
                "Passes of housekeeping that were given up; the next one goes on.",
                registry
            )?,
            failing,
        })
    }

    /// Notes and logs how a pass of a duty has ended.
    pub(crate) fn record(&self, task: HousekeepingTask, done: &Result<(), StorageError>) {
        let failing = self.failing.with_label_values(&[task.label()]);
        failing.set(done.is_err().into());
        if let Err(error) = done {
            self.failures.inc();
            tracing::warn!(
                error = error as &dyn std::error::Error,
                duty = task.label(),
                "a pass of housekeeping was given up; the next one goes on"
            );
        }
    }

    #[cfg(test)]
    pub(crate) fn is_failing(&self, task: HousekeepingTask) -> bool {
        self.failing.with_label_values(&[task.label()]).get() == 1
    }
}
