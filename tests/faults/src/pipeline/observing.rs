//! Reads `/metrics` and `/readyz` of the services.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail, ensure};
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;

use super::{Pipeline, Service};
use crate::queues;

/// Counts the redelivered batches that the ledger has recognised.
pub(crate) const DEDUPLICATED: &str = "llm_bench_batches_deduplicated_total";
/// Counts the consumed batches.
pub(crate) const CONSUMED: &str = "llm_bench_batches_consumed_total";

/// The components that are not ready, each with its reason.
pub(crate) type UnreadyComponents = BTreeMap<String, String>;

impl Pipeline {
    /// The sum of a metric's samples over all labels.
    async fn metric_at(&self, url: &str, name: &str) -> anyhow::Result<f64> {
        let (status, page) = self.api.page(&format!("{url}/metrics")).await?;
        ensure!(status == 200, "{url}/metrics answered {status}");
        let samples: Vec<f64> = page
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with([' ', '{']))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
            .collect();
        ensure!(!samples.is_empty(), "{url} has no metric {name}");
        Ok(samples.iter().sum())
    }

    /// The value of a counter over all labels, since the start of the process.
    pub(crate) async fn count(&self, service: Service, name: &str) -> anyhow::Result<u64> {
        self.count_at(&self.url(service), name).await
    }

    /// The value of a counter of the service at `url`, which need not be one of the pipeline's.
    pub(crate) async fn count_at(&self, url: &str, name: &str) -> anyhow::Result<u64> {
        let counted = self.metric_at(url, name).await?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter of events is neither negative nor anywhere near 2^53"
        )]
        let whole = counted as u64;
        Ok(whole)
    }

    /// Waits for `until`. Returns its output and the highest value of the benchmark service's gauge meanwhile.
    pub(crate) async fn peak_of<T>(
        &self,
        name: &str,
        mut until: impl Future<Output = T> + Unpin,
    ) -> (T, f64) {
        let (url, mut peak) = (self.url(Service::Benchmark), 0.0_f64);
        loop {
            tokio::select! {
                biased;
                ended = &mut until => return (ended, peak),
                // A failed read counts as 0 and is followed by another one.
                seen = self.metric_at(&url, name) => peak = peak.max(seen.unwrap_or(0.0)),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The components that `/readyz` reports as missing; empty where the service is ready.
    pub(crate) async fn missing(&self, service: Service) -> anyhow::Result<UnreadyComponents> {
        let (status, page) = self.ask(service, "/readyz").await?;
        let answer: Value = serde_json::from_str(&page)?;
        let components = answer["components"]
            .as_object()
            .context("readiness without components")?;
        let missing: UnreadyComponents = components
            .iter()
            .filter(|(_, state)| state["state"] != "ready")
            .map(|(name, state)| {
                let reason = state["reason"].as_str().unwrap_or_default();
                (name.clone(), reason.to_owned())
            })
            .collect();
        match (status, missing.is_empty()) {
            (200, true) | (503, false) => Ok(missing),
            _ => bail!("/readyz answered {status}, missing {missing:?}"),
        }
    }

    /// Waits until `/readyz` reports a missing component whose name starts with `component` and whose reason contains `words`.
    pub(crate) async fn wait_until_missing(
        &self,
        service: Service,
        component: &str,
        words: &str,
    ) -> anyhow::Result<()> {
        let what = format!("/readyz of {} names {component}, {words:?}", service.program());
        self.until(&what, async || {
            let missing = self.missing(service).await?;
            Ok(missing
                .iter()
                .any(|(name, reason)| name.starts_with(component) && reason.contains(words)))
        })
        .await
    }

    /// Waits until at least `at_least` messages are ready in the queue, and returns their number.
    pub(crate) async fn backlog(&self, at_least: u64) -> anyhow::Result<u64> {
        let connection = Connection::connect(&self.amqp, ConnectionProperties::default()).await?;
        let depth = async || queues::ready(&connection, queues::QUEUE).await;
        self.until(&format!("{at_least} messages are queued"), async || {
            Ok(depth().await? >= at_least)
        })
        .await?;
        let depth = depth().await?;
        connection.close(200, "seen".into()).await?;
        Ok(depth)
    }

    /// The date by the service's clock, as in `Sun, 22 Nov 2026`.
    pub(crate) async fn date(&self, service: Service) -> anyhow::Result<String> {
        const DAY: usize = "Sun, 22 Nov 2026".len();
        let answer = reqwest::get(format!("{}/healthz", self.url(service))).await?;
        let date = answer.headers().get("date").context("an answer without date")?;
        let day = date.to_str()?.get(..DAY).context("a short date")?;
        Ok(day.to_owned())
    }

    async fn ask(&self, service: Service, path: &str) -> anyhow::Result<(u16, String)> {
        self.api.page(&format!("{}{path}", self.url(service))).await
    }

    fn url(&self, service: Service) -> String {
        match service {
            Service::Simulation => format!("http://{}", self.simulation_address),
            Service::Benchmark | Service::Embedded => self.api.url.clone(),
        }
    }
}
