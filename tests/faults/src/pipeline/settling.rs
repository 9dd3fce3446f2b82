//! After the healing: how long until everything is well, and whether it is.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::{Pipeline, Service, until};
use crate::{
    database::Key,
    oracle::Exact,
    queue,
    verdict::{Miscounted, Outcome, RECOVERY_LIMIT, Verdict},
    watch::Row,
};

/// What is to be found at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    /// Messages that were rejected.
    pub(crate) dead_letters: u64,
}

impl Pipeline {
    /// To be called when the fault has just healed: measures the recovery, ends the flow and checks every invariant.
    pub(crate) async fn settle(
        self,
        injected: u64,
        evidence: String,
        expected: &Expected,
    ) -> anyhow::Result<Verdict> {
        let recovered = self.recovery().await?;
        self.settle_recovered(injected, recovered, evidence, expected)
            .await
    }

    /// The time until everything that was stored by now is counted and shown, and more besides.
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
        self.flows().await?;
        let recovered = healed.elapsed();
        ensure!(
            recovered <= RECOVERY_LIMIT,
            "I4: recovered after {recovered:?}, the limit is {RECOVERY_LIMIT:?}"
        );
        Ok(recovered)
    }

    /// Ends the flow and checks every invariant but that of the recovery's time.
    pub(crate) async fn settle_recovered(
        mut self,
        injected: u64,
        recovered: Duration,
        evidence: String,
        expected: &Expected,
    ) -> anyhow::Result<Verdict> {
        self.end_flow().await?;
        let settled = until(
            "ledger = batches and the outbox is empty",
            RECOVERY_LIMIT,
            async || Ok(self.database.balance().await?.is_even()),
        )
        .await;
        let balance = self.database.balance().await?;
        let exact = self.database.exact().await?;
        let Miscounted { lost, doubled } = self.shows(&exact).await?;
        settled.with_context(|| format!("I1, I3: {balance:?}"))?;
        self.queues_are_as(expected).await?;
        self.statistics_are_right().await?;
        self.is_compared().await?;
        for service in self.services() {
            if self.slot(*service).is_some() {
                self.stop(*service).await?;
            }
        }

        let seen = self.watch.end();
        ensure!(seen.violations.is_empty(), "{}", seen.violations.join("; "));
        Ok(Verdict::Held(Outcome {
            injected,
            recovered,
            lost,
            doubled,
            batches: balance.stored.cast_unsigned(),
            peak_memory: seen.peak_memory,
            evidence,
        }))
    }

    /// Nothing more is produced; what has been produced is still being counted.
    async fn end_flow(&mut self) -> anyhow::Result<()> {
        if !self.database.is_embedded() {
            return self.stop(Service::Simulation).await;
        }
        self.stop(Service::Embedded).await?;
        let consuming = self.spawn(Service::Embedded, &["up", "--no-simulation"], &[])?;
        *self.slot(Service::Embedded) = Some(consuming);
        Ok(())
    }

    /// I3.
    async fn queues_are_as(&self, expected: &Expected) -> anyhow::Result<()> {
        if self.database.is_embedded() {
            // The queue inside the process holds nothing that is not in the outbox as well.
            return Ok(());
        }
        let vhost = self.vhost()?;
        let queues = [queue::QUEUE, queue::DEAD_LETTERS];
        let depths = async || queue::messages(&self.rabbitmq, &vhost, queues).await;
        let wanted = [0, expected.dead_letters];
        let settled = until("the queues are as expected", RECOVERY_LIMIT, async || {
            Ok(depths().await? == wanted)
        })
        .await;
        settled.with_context(|| format!("I3: expected {wanted:?} messages in queue and dead letters"))
    }

    /// I6: waits until the API has been compared with the database once more, now that all is over.
    async fn is_compared(&self) -> anyhow::Result<()> {
        let before = self.watch.seen().comparisons;
        until(
            "the API is compared with the database",
            RECOVERY_LIMIT,
            async || Ok(self.watch.seen().comparisons > before),
        )
        .await
        .context("I6")
    }

    /// I1, I2: waits until the API shows as many values as are stored, and holds every figure against the oracle, and
    /// against what was ever seen to be stored.
    async fn shows(&self, exact: &BTreeMap<Key, Exact>) -> anyhow::Result<Miscounted> {
        let stored: u64 = exact.values().map(|sums| sums.n).sum();
        // Whether it came to that is told by the comparison below, with the figures.
        let _ = until("all that is stored is shown", RECOVERY_LIMIT, async || {
            Ok(self.ranked().await >= stored)
        })
        .await;
        let shown = self.api.rankings().await?;
        let miscounted = Miscounted::of(&shown, exact, &self.watch.seen().most_stored);
        if miscounted != Miscounted::default() {
            return Err(miscounted.into());
        }
        let of_oracle: BTreeMap<Key, Row> = exact
            .iter()
            .map(|(key, sums)| {
                let row = Row {
                    n: sums.n,
                    mean: sums.mean(),
                    stddev: sums.stddev(),
                };
                (key.clone(), row)
            })
            .collect();
        ensure!(
            shown.keys().eq(of_oracle.keys()),
            "I1: shown {:?}, stored {:?}",
            shown.keys(),
            of_oracle.keys()
        );
        for (key, row) in &shown {
            let right = &of_oracle[key];
            ensure!(
                row == right,
                "I2: {key:?}: shown {row:?}, the oracle says {right:?}"
            );
        }
        Ok(miscounted)
    }

    /// The same for every hour: recomputing them from the stored batches must change nothing.
    async fn statistics_are_right(&self) -> anyhow::Result<()> {
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
