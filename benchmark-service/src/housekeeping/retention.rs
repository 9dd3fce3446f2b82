use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use shared_types::Clock;
use storage::{Hour, Reconciliation, StorageError};
use tokio_util::sync::CancellationToken;

use super::HousekeepingMetrics;

/// Deletes counted batches that are older than the retention.
pub(crate) struct Retention {
    pub(crate) storage: Arc<dyn Reconciliation>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keep: TimeDelta,
    pub(crate) metrics: HousekeepingMetrics,
}

impl Retention {
    /// Hours are what is kept or deleted as a whole.
    const INTERVAL: Duration = Duration::from_secs(3600);
    /// Batches that are deleted in one transaction, so that none is long and consumers get their turn in between.
    const CHUNK: u32 = 1000;

    /// Prunes at once and then every hour, until shutdown.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        loop {
            let pruned = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                pruned = self.prune() => pruned,
            };
            if let Err(error) = pruned {
                self.metrics.failures.inc();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "deleting old batches was given up; it is tried again in an hour"
                );
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Self::INTERVAL) => {}
            }
        }
    }

    /// Deletes chunk after chunk until nothing is left.
    async fn prune(&self) -> Result<(), StorageError> {
        let before = Hour::of(self.clock.now() - self.keep);
        let mut batches = 0;
        loop {
            let pruned = self.storage.prune(before, Self::CHUNK).await?;
            self.metrics.pruned.inc_by(pruned.batches);
            batches += pruned.batches;
            if !pruned.more {
                if batches > 0 {
                    tracing::info!(
                        batches.pruned = batches,
                        retained_from = %pruned.retained_from.start(),
                        "deleted what is older than the retention"
                    );
                }
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use prometheus::Registry;
    use shared_types::ManualClock;
    use storage::{Audit, Pruned, Requeued, Result};

    use super::*;

    /// So many batches are old; the first call fails where told so.
    struct Old {
        batches: Mutex<u64>,
        fails_once: Mutex<bool>,
        asked: Mutex<Vec<Hour>>,
    }

    #[async_trait]
    impl Reconciliation for Old {
        async fn requeue_uncounted(&self, _: Duration, _: u32) -> Result<Requeued> {
            Ok(Requeued::default())
        }

        async fn audit(&self, _: Option<Hour>, _: u64) -> Result<Audit> {
            Err(StorageError::no_llm(shared_types::LlmId(0)))
        }

        async fn prune(&self, before: Hour, limit: u32) -> Result<Pruned> {
            self.asked.lock().unwrap().push(before);
            if std::mem::take(&mut *self.fails_once.lock().unwrap()) {
                return Err(StorageError::Unavailable {
                    operation: "prune",
                    source: "on purpose".into(),
                });
            }
            let mut left = self.batches.lock().unwrap();
            let batches = (*left).min(limit.into());
            *left -= batches;
            Ok(Pruned {
                retained_from: before,
                batches,
                more: *left > 0,
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn old_batches_go_chunk_by_chunk_and_a_failure_only_delays_them() {
        let old = Arc::new(Old {
            batches: Mutex::new(2500),
            fails_once: Mutex::new(true),
            asked: Mutex::new(Vec::new()),
        });
        let now = "2026-05-10T12:30:00Z".parse().unwrap();
        let metrics = HousekeepingMetrics::register(&Registry::new()).unwrap();
        let retention = Retention {
            storage: Arc::clone(&old) as Arc<_>,
            clock: Arc::new(ManualClock::at(now)),
            keep: TimeDelta::days(2),
            metrics: metrics.clone(),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(retention.run(shutdown.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((metrics.failures.get(), metrics.pruned.get()), (1, 0));
        tokio::time::sleep(Retention::INTERVAL).await;
        assert_eq!((metrics.failures.get(), metrics.pruned.get()), (1, 2500));
        let two_days_ago = Hour::of("2026-05-08T12:00:00Z".parse().unwrap());
        assert_eq!(*old.asked.lock().unwrap(), [two_days_ago; 4]);
        shutdown.cancel();
        running.await.unwrap();
    }
}
