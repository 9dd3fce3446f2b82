//! After a fault: measures the recovery and checks the invariants.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::{Pipeline, Service, until};
use crate::{
    database::Key,
    monitor::RankingRow,
    oracle::ExactSums,
    outcome::{FaultFigures, FaultOutcome, Miscounted, RECOVERY_LIMIT},
    queues,
};

/// What the checks expect at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    /// The number of rejected messages.
    pub(crate) dead_letters: u64,
}

impl Pipeline {
    /// Call it when the fault has just ended. Measures the recovery, stops the producer and checks every invariant.
    pub(crate) async fn settle(
        self,
        injected: u64,
        evidence: String,
        expected: &Expected,
    ) -> anyhow::Result<FaultOutcome> {
        let recovered = self.recovery().await?;
        self.settle_recovered(injected, recovered, evidence, expected)
            .await
    }

    /// Waits until everything that is stored now is counted and shown and further values flow. Returns how long that took.
    pub(crate) async fn recovery(&self) -> anyhow::Result<Duration> {
        let healed = Instant::now();
        let limit = RECOVERY_LIMIT + Duration::from_secs(60);
        let mark = std::cell::OnceCell::new();
        until(
            "everything stored before the healing is counted",
            limit,
            async || {
                if mark.get().is_none() {
                    let now = self.database.now().await?;
                    mark.get_or_init(|| now);
                }
                let mark = mark.get().context("the database's clock")?;
                Ok(self.database.uncounted_before(mark).await? == 0)
            },
        )
        .await?;
        self.wait_until_values_flow().await?;
        let recovered = healed.elapsed();
        ensure!(
            recovered <= RECOVERY_LIMIT,
            "I4: recovered after {recovered:?}, the limit is {RECOVERY_LIMIT:?}"
        );
        Ok(recovered)
    }

    /// Stops the producer and checks every invariant except the duration of the recovery.
    pub(crate) async fn settle_recovered(
        mut self,
        injected: u64,
        recovered: Duration,
        evidence: String,
        expected: &Expected,
    ) -> anyhow::Result<FaultOutcome> {
        self.stop_producer().await?;
        let settled = until(
            "ledger = batches and the outbox is empty",
            RECOVERY_LIMIT,
            async || Ok(self.database.balance().await?.is_settled()),
        )
        .await;
        let balance = self.database.balance().await?;
        let exact = self.database.exact().await?;
        let Miscounted { lost, doubled } = self.check_rankings(&exact).await?;
        settled.with_context(|| format!("I1, I3: {balance:?}"))?;
        self.check_queues(expected).await?;
        self.check_rebuild().await?;
        self.wait_for_comparison().await?;
        for service in self.services() {
            if self.slot(*service).is_some() {
                self.stop(*service).await?;
            }
        }

        let seen = self.watch.end();
        ensure!(seen.violations.is_empty(), "{}", seen.violations.join("; "));
        Ok(FaultOutcome::Held(FaultFigures {
            injected,
            recovered,
            lost,
            doubled,
            batches: balance.stored.cast_unsigned(),
            peak_memory: seen.peak_memory,
            evidence,
        }))
    }

    /// Stops the producer. Stored batches are still counted.
    async fn stop_producer(&mut self) -> anyhow::Result<()> {
        if !self.database.is_embedded() {
            return self.stop(Service::Simulation).await;
        }
        self.stop(Service::Embedded).await?;
        let consuming = self.spawn(Service::Embedded, &["up", "--no-simulation"], &[])?;
        *self.slot(Service::Embedded) = Some(consuming);
        Ok(())
    }

    /// Checks I3.
    async fn check_queues(&self, expected: &Expected) -> anyhow::Result<()> {
        if self.database.is_embedded() {
            // Every message in the process's queue is in the outbox too.
            return Ok(());
        }
        let vhost = self.vhost()?;
        let queues = [queues::QUEUE, queues::DEAD_LETTERS];
        let depths = async || queues::messages(&self.rabbitmq, &vhost, queues).await;
        let wanted = [0, expected.dead_letters];
        let settled = until("the queues are as expected", RECOVERY_LIMIT, async || {
            Ok(depths().await? == wanted)
        })
        .await;
        settled.with_context(|| format!("I3: expected {wanted:?} messages in queue and dead letters"))
    }

    /// Checks I6: waits until the monitor has compared the API with the database once more.
    async fn wait_for_comparison(&self) -> anyhow::Result<()> {
        let before = self.watch.seen().comparisons;
        until(
            "the API is compared with the database",
            RECOVERY_LIMIT,
            async || Ok(self.watch.seen().comparisons > before),
        )
        .await
        .context("I6")
    }

    /// Checks I1 and I2: waits until the API shows as many values as are stored, then compares every figure with the oracle and
    /// every count with the largest number that was stored.
    async fn check_rankings(&self, exact: &BTreeMap<Key, ExactSums>) -> anyhow::Result<Miscounted> {
        let stored: u64 = exact.values().map(|sums| sums.n).sum();
        // If it times out, the comparison below fails with the figures.
        let _ = until("all that is stored is shown", RECOVERY_LIMIT, async || {
            Ok(self.ranked().await >= stored)
        })
        .await;
        let shown = self.api.rankings().await?;
        let miscounted = Miscounted::of(&shown, exact, &self.watch.seen().most_stored);
        if miscounted != Miscounted::default() {
            return Err(miscounted.into());
        }
        let expected_rows: BTreeMap<Key, RankingRow> = exact
            .iter()
            .map(|(key, sums)| {
                let row = RankingRow {
                    n: sums.n,
                    mean: sums.mean(),
                    stddev: sums.stddev(),
                };
                (key.clone(), row)
            })
            .collect();
        ensure!(
            shown.keys().eq(expected_rows.keys()),
            "I1: shown {:?}, stored {:?}",
            shown.keys(),
            expected_rows.keys()
        );
        for (key, row) in &shown {
            let expected = &expected_rows[key];
            ensure!(
                row == expected,
                "I2: {key:?}: shown {row:?}, the oracle says {expected:?}"
            );
        }
        Ok(miscounted)
    }

    /// Checks I2 for every hour: rebuilding the statistics from the stored batches must change nothing.
    async fn check_rebuild(&self) -> anyhow::Result<()> {
        let rebuilt = tokio::process::Command::new(crate::process::program("llm-bench")?)
            .arg("rebuild")
            .env_clear()
            .env("DATABASE_URL", self.database.url())
            .output()
            .await?;
        let said = String::from_utf8_lossy(&rebuilt.stdout);
        ensure!(
            rebuilt.status.success() && said.contains("all were right before"),
            "I2: rebuild: {said}{}",
            String::from_utf8_lossy(&rebuilt.stderr)
        );
        Ok(())
    }
}
