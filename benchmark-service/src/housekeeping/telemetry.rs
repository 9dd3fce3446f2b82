use prometheus::{IntCounter, IntGauge, IntGaugeVec};
use storage::StorageError;

use crate::telemetry::telemetry;

/// The tasks of housekeeping. On `/metrics` and in the log a task is called a duty.
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

telemetry! {
    /// The Prometheus metrics of housekeeping.
    struct HousekeepingTelemetry {
        requeued: IntCounter = counter(
            "llm_bench_reconcile_requeued_total",
            "Batches that were stored, overdue and not counted, and were sent again."
        );
        uncounted: IntGauge = gauge(
            "llm_bench_reconcile_uncounted",
            "Batches that are stored, overdue and not counted, as of the last pass."
        );
        audited: IntCounter = counter(
            "llm_bench_audited_batches_total",
            "Batches that were folded again to check the statistics."
        );
        mismatches: IntGauge = gauge(
            "llm_bench_reconcile_mismatches",
            "Statistics rows that are not what the batches say: of the last full audit, or of the one under way \
             where it has found more."
        );
        pruned: IntCounter = counter(
            "llm_bench_pruned_batches_total",
            "Batches that were deleted because they are older than the retention."
        );
        held_back: IntGauge = gauge(
            "llm_bench_retention_held_back_hours",
            "Hours of batches that are older than the retention and are kept, because one of them is not counted."
        );
        failures: IntCounter = counter(
            "llm_bench_housekeeping_failures_total",
            "Passes of housekeeping that were given up; the next one goes on."
        );
        failing_tasks: IntGaugeVec = gauge_vec(
            "llm_bench_housekeeping_failing",
            "1 while the last pass of a duty (requeue, audit, prune) was given up.",
            &["duty"]
        );
    }
}

impl HousekeepingTelemetry {
    /// Has every task appear on `/metrics` before its first pass.
    pub(crate) fn with_every_task(self) -> Self {
        for task in HousekeepingTask::ALL {
            self.failing(task);
        }
        self
    }

    fn failing(&self, task: HousekeepingTask) -> IntGauge {
        self.failing_tasks.with_label_values(&[task.label()])
    }

    /// Records and logs how a pass of a task has ended.
    pub(crate) fn record(&self, task: HousekeepingTask, done: &Result<(), StorageError>) {
        self.failing(task).set(done.is_err().into());
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
        self.failing(task).get() == 1
    }
}
