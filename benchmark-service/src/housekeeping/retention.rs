use std::{sync::Arc, time::Duration};

use shared_types::Clock;
use storage::{Pruned, Reconciliation, StorageError};
use tokio_util::sync::CancellationToken;

use super::{HousekeepingTask, HousekeepingTelemetry};

/// Deletes counted batches that are older than the retention.
pub(crate) struct Retention {
    pub(crate) storage: Arc<dyn Reconciliation>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keep: Duration,
    pub(crate) telemetry: HousekeepingTelemetry,
}

impl Retention {
    /// Batches are kept or deleted in whole hours, so pruning more often deletes no more.
    const INTERVAL: Duration = Duration::from_secs(3600);
    /// Batches that are deleted in one transaction: short transactions let consumers commit in between.
    const CHUNK: u32 = 1000;

    /// Prunes at once and then every hour, until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let prune = async {
            loop {
                self.telemetry
                    .record(HousekeepingTask::Prune, &self.prune().await);
                tokio::time::sleep(Self::INTERVAL).await;
            }
        };
        shutdown.run_until_cancelled(prune).await;
    }

    /// Deletes chunk after chunk until nothing is left, or until another process prunes or rebuilds.
    async fn prune(&self) -> Result<(), StorageError> {
        let mut batches = 0;
        let last = loop {
            let pruned = self
                .storage
                .prune(self.keep, self.clock.now(), Self::CHUNK)
                .await?;
            self.telemetry.pruned.inc_by(pruned.batches);
            batches += pruned.batches;
            if pruned.batches == 0 || !pruned.more {
                break pruned;
            }
        };
        if batches > 0 {
            tracing::info!(
                batches.pruned = batches,
                retained_from = %last.retained_from.start(),
                "deleted what is older than the retention"
            );
        }
        // While another process prunes, the result does not say what is held back.
        if !last.more {
            self.report_held_back(&last);
        }
        Ok(())
    }

    fn report_held_back(&self, pruned: &Pruned) {
        let hours = pruned.held_back_hours;
        self.telemetry
            .held_back
            .set(i64::try_from(hours).unwrap_or(i64::MAX));
        if hours > 0 {
            tracing::warn!(
                held_back_hours = hours,
                retained_from = %pruned.retained_from.start(),
                "older batches than the retention says are kept, because one of them is stored and not counted"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use chrono::{DateTime, Utc};
    use prometheus::Registry;
    use shared_types::ManualClock;
    use storage::{Audit, Hour, Requeued, Result};

    use super::*;

    /// A storage with this many old batches.
    struct ScriptedStorage {
        batches: Mutex<u64>,
        fails_once: Mutex<bool>,
        /// Somebody else prunes or rebuilds.
        busy: bool,
        held_back_hours: u64,
        asked: Mutex<Vec<(Duration, DateTime<Utc>)>>,
    }

    #[async_trait]
    impl Reconciliation for ScriptedStorage {
        async fn requeue_uncounted(&self, _: Duration, _: u32) -> Result<Requeued> {
            Ok(Requeued::default())
        }

        async fn audit(&self, _: Option<Hour>, _: u64) -> Result<Audit> {
            Err(StorageError::NotFound {
                kind: "LLM",
                id: "0".to_owned(),
            })
        }

        async fn prune(&self, keep: Duration, now: DateTime<Utc>, limit: u32) -> Result<Pruned> {
            self.asked.lock().unwrap().push((keep, now));
            if std::mem::take(&mut *self.fails_once.lock().unwrap()) {
                return Err(StorageError::Unavailable {
                    operation: "prune",
                    source: "on purpose".into(),
                });
            }
            let mut left = self.batches.lock().unwrap();
            let batches = if self.busy { 0 } else { (*left).min(limit.into()) };
            *left -= batches;
            Ok(Pruned {
                retained_from: Hour(0),
                batches,
                more: *left > 0,
                held_back_hours: self.held_back_hours,
            })
        }
    }

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;
    const KEEP: Duration = Duration::from_secs(2 * 86_400);

    fn old(batches: u64) -> ScriptedStorage {
        ScriptedStorage {
            batches: Mutex::new(batches),
            fails_once: Mutex::new(false),
            busy: false,
            held_back_hours: 0,
            asked: Mutex::new(Vec::new()),
        }
    }

    fn retention(old: &Arc<ScriptedStorage>) -> Retention {
        Retention {
            storage: Arc::clone(old) as Arc<_>,
            clock: Arc::new(ManualClock::at(NOW)),
            keep: KEEP,
            telemetry: HousekeepingTelemetry::register(&Registry::new()).unwrap(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn old_batches_go_chunk_by_chunk_and_a_failure_only_delays_them() {
        let old = Arc::new(ScriptedStorage {
            fails_once: Mutex::new(true),
            ..old(2500)
        });
        let retention = retention(&old);
        let telemetry = retention.telemetry.clone();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(retention.run(shutdown.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((telemetry.failures.get(), telemetry.pruned.get()), (1, 0));
        assert!(telemetry.is_failing(HousekeepingTask::Prune));
        tokio::time::sleep(Retention::INTERVAL).await;
        assert_eq!((telemetry.failures.get(), telemetry.pruned.get()), (1, 2500));
        assert!(!telemetry.is_failing(HousekeepingTask::Prune));
        assert_eq!(*old.asked.lock().unwrap(), [(KEEP, NOW); 4]);
        shutdown.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn while_somebody_else_is_at_it_nobody_asks_again_and_again() {
        let old = Arc::new(ScriptedStorage {
            busy: true,
            ..old(2500)
        });
        retention(&old).prune().await.unwrap();
        assert_eq!(old.asked.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_holds_the_retention_back_shows() {
        let old = Arc::new(ScriptedStorage {
            held_back_hours: 7,
            ..old(3)
        });
        let retention = retention(&old);
        retention.prune().await.unwrap();
        assert_eq!(retention.telemetry.held_back.get(), 7);
    }
}
