use std::{collections::BTreeSet, sync::Arc};

use broker::Broker;
use storage::{Hour, Mismatch, Reconciliation, StorageError};
use tokio_util::sync::CancellationToken;

use super::{HousekeepingSettings, HousekeepingTask, HousekeepingTelemetry};

/// Sends batches again that the broker lost, and audits a part of the statistics in each pass.
pub(crate) struct Reconciler {
    storage: Arc<dyn Reconciliation>,
    broker: Arc<dyn Broker>,
    settings: HousekeepingSettings,
    telemetry: HousekeepingTelemetry,
    /// Where the next step of the audit starts.
    position: Option<Hour>,
    /// The mismatches that the audit under way has found, and the number that the audit before it found.
    found: BTreeSet<Mismatch>,
    found_before: usize,
}

impl Reconciler {
    /// Batches that are requeued in one transaction.
    const REQUEUE_LIMIT: u32 = 1000;
    /// Batches that are folded again in one pass, about 8 MB of typical values; more where a single hour holds more.
    const AUDIT_BATCHES: u64 = 1000;
    /// The most mismatches of one pass that the log names.
    const MOST_NAMED: usize = 20;

    pub(crate) fn new(
        storage: Arc<dyn Reconciliation>,
        broker: Arc<dyn Broker>,
        settings: HousekeepingSettings,
        telemetry: HousekeepingTelemetry,
    ) -> Self {
        Self {
            storage,
            broker,
            settings,
            telemetry,
            position: None,
            found: BTreeSet::new(),
            found_before: 0,
        }
    }

    /// Makes a pass after every interval, until shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(self.next_pass()).await.is_some() {}
    }

    /// Requeues, then audits even if requeueing failed.
    async fn next_pass(&mut self) {
        tokio::time::sleep(self.settings.interval).await;
        let requeued = self.requeue().await;
        self.telemetry.record(HousekeepingTask::Requeue, &requeued);
        let audited = self.audit().await;
        self.telemetry.record(HousekeepingTask::Audit, &audited);
    }

    /// Sends overdue batches again, a limited number in each transaction, until none is left.
    async fn requeue(&self) -> Result<(), StorageError> {
        let queued = self.broker.info().await.ok().map(|info| info.queued);
        let grace = self.settings.grace_with(queued);
        loop {
            let done = self.storage.requeue_uncounted(grace, Self::REQUEUE_LIMIT).await?;
            self.telemetry.requeued.inc_by(done.requeued);
            self.telemetry.uncounted.set(clamped(done.uncounted));
            if done.requeued > 0 {
                tracing::warn!(
                    batches.requeued = done.requeued,
                    batches.uncounted = done.uncounted,
                    "stored batches are overdue and not counted; sending them again"
                );
            }
            if done.requeued < u64::from(Self::REQUEUE_LIMIT) {
                return Ok(());
            }
        }
    }

    /// One step of the audit. After the last step the audit starts again from the beginning.
    async fn audit(&mut self) -> Result<(), StorageError> {
        let step = self.storage.audit(self.position, Self::AUDIT_BATCHES).await?;
        self.telemetry.audited.inc_by(step.batches);
        for Mismatch { key, period } in step.mismatches.iter().take(Self::MOST_NAMED) {
            tracing::error!(
                llm.id = key.llm.0,
                metric.id = key.metric.0,
                source = key.source.as_str(),
                ?period,
                "a statistics row is not what the stored batches say; `llm-bench rebuild` recomputes all"
            );
        }
        if step.mismatches.len() > Self::MOST_NAMED {
            tracing::error!(
                mismatches = step.mismatches.len(),
                "more statistics rows are not what the stored batches say"
            );
        }
        self.found.extend(step.mismatches);
        self.position = step.next;
        if step.next.is_none() {
            self.found_before = std::mem::take(&mut self.found).len();
        }
        let mismatches = self.found_before.max(self.found.len());
        self.telemetry.mismatches.set(clamped(mismatches as u64));
        Ok(())
    }
}

fn clamped(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use async_trait::async_trait;
    use broker_in_process::InProcessBroker;
    use chrono::{DateTime, Utc};
    use prometheus::Registry;
    use shared_types::{LlmId, MetricId, Source, SystemClock};
    use storage::{Audit, Period, Pruned, Requeued, Result, StatisticsKey};

    use super::*;

    /// Returns prepared results and records its arguments.
    #[derive(Default)]
    struct ScriptedStorage {
        requeues_fail: Mutex<bool>,
        uncounted: Mutex<u64>,
        audits: Mutex<Vec<Audit>>,
        graces: Mutex<Vec<Duration>>,
        positions: Mutex<Vec<Option<Hour>>>,
    }

    #[async_trait]
    impl Reconciliation for ScriptedStorage {
        async fn requeue_uncounted(&self, grace: Duration, limit: u32) -> Result<Requeued> {
            self.graces.lock().unwrap().push(grace);
            if *self.requeues_fail.lock().unwrap() {
                return Err(away());
            }
            let mut left = self.uncounted.lock().unwrap();
            let requeued = (*left).min(limit.into());
            *left -= requeued;
            Ok(Requeued {
                uncounted: requeued,
                requeued,
            })
        }

        async fn audit(&self, from: Option<Hour>, _: u64) -> Result<Audit> {
            self.positions.lock().unwrap().push(from);
            let mut audits = self.audits.lock().unwrap();
            if audits.is_empty() {
                return Err(away());
            }
            Ok(audits.remove(0))
        }

        async fn prune(&self, _: Duration, _: DateTime<Utc>, _: u32) -> Result<Pruned> {
            Err(away())
        }
    }

    fn away() -> StorageError {
        StorageError::Unavailable {
            operation: "anything",
            source: "the test took the database away".into(),
        }
    }

    fn reconciler(storage: &Arc<ScriptedStorage>) -> Reconciler {
        Reconciler::new(
            Arc::clone(storage) as Arc<_>,
            Arc::new(InProcessBroker::with_clock(4, Arc::new(SystemClock))),
            HousekeepingSettings::default(),
            HousekeepingTelemetry::register(&Registry::new()).unwrap(),
        )
    }

    fn step(mismatches: &[i64], next: Option<i64>) -> Audit {
        let key = StatisticsKey {
            llm: LlmId(1),
            metric: MetricId(1),
            source: Source::Simulated,
        };
        Audit {
            batches: 10,
            rows: 1,
            mismatches: mismatches
                .iter()
                .map(|&hour| Mismatch {
                    key,
                    period: Period::Hour(Hour(hour)),
                })
                .collect(),
            next: next.map(Hour),
        }
    }

    #[tokio::test]
    async fn everything_that_is_overdue_is_sent_again_a_limited_number_at_a_time() {
        let storage = Arc::new(ScriptedStorage::default());
        *storage.uncounted.lock().unwrap() = 2500;
        let reconciler = reconciler(&storage);
        reconciler.requeue().await.unwrap();
        assert_eq!(reconciler.telemetry.requeued.get(), 2500);
        assert_eq!(storage.graces.lock().unwrap().len(), 3);
        reconciler.requeue().await.unwrap();
        assert_eq!(reconciler.telemetry.uncounted.get(), 0);
    }

    #[tokio::test]
    async fn a_backlog_is_not_a_loss() {
        let storage = Arc::new(ScriptedStorage::default());
        let reconciler = reconciler(&storage);
        reconciler.requeue().await.unwrap();
        let publisher = reconciler.broker.publisher();
        let waiting = broker::OutgoingMessage {
            id: uuid::Uuid::from_u128(1).into(),
            llm: String::new(),
            metric: String::new(),
            routing_key: "batch.test.test".to_owned(),
            n: 0,
            timestamp: DateTime::UNIX_EPOCH,
            run_id: None,
            content_type: "application/json",
            body: bytes::Bytes::new(),
        };
        // Nobody consumes it, so it is never confirmed: it waits in the queue for as long as the test runs.
        let published = tokio::spawn(async move { publisher.publish(&waiting).await });
        while reconciler.broker.info().await.unwrap().queued == 0 {
            tokio::task::yield_now().await;
        }
        reconciler.requeue().await.unwrap();
        published.abort();
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(*storage.graces.lock().unwrap(), [minutes(5), minutes(60)]);
    }

    #[tokio::test]
    async fn the_audit_goes_on_where_it_stopped_and_the_gauge_keeps_the_last_cycle() {
        let storage = Arc::new(ScriptedStorage::default());
        *storage.audits.lock().unwrap() = vec![
            step(&[1], Some(2)),
            step(&[2, 3], None),
            step(&[], Some(2)),
            step(&[], None),
        ];
        let mut reconciler = reconciler(&storage);
        let mut gauges = Vec::new();
        for _ in 0..4 {
            reconciler.audit().await.unwrap();
            gauges.push(reconciler.telemetry.mismatches.get());
        }
        assert_eq!(gauges, [1, 3, 3, 0]);
        assert_eq!(reconciler.telemetry.audited.get(), 40);
        reconciler.audit().await.unwrap_err();
        let positions = [None, Some(Hour(2)), None, Some(Hour(2)), None];
        assert_eq!(*storage.positions.lock().unwrap(), positions);
    }

    #[tokio::test(start_paused = true)]
    async fn the_audit_goes_on_where_requeueing_fails() {
        let storage = Arc::new(ScriptedStorage::default());
        *storage.requeues_fail.lock().unwrap() = true;
        *storage.audits.lock().unwrap() = vec![step(&[], None)];
        let mut reconciler = reconciler(&storage);
        reconciler.next_pass().await;
        assert_eq!(reconciler.telemetry.audited.get(), 10);
        assert_eq!(reconciler.telemetry.failures.get(), 1);
        let failing = [HousekeepingTask::Requeue, HousekeepingTask::Audit]
            .map(|task| reconciler.telemetry.is_failing(task));
        assert_eq!(failing, [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_fails_is_counted_and_the_next_one_follows() {
        let storage = Arc::new(ScriptedStorage::default());
        let (reconciler, shutdown) = (reconciler(&storage), CancellationToken::new());
        let failures = reconciler.telemetry.failures.clone();
        let running = tokio::spawn(reconciler.run(shutdown.clone()));
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert_eq!(failures.get(), 3);
        shutdown.cancel();
        running.await.unwrap();
    }
}
