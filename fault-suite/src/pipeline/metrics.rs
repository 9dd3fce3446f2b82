//! What the services count themselves.

use anyhow::Context as _;

use super::{Pipeline, Service};

/// Redeliveries that the ledger has caught.
pub(crate) const DEDUPLICATED: &str = "llm_bench_batches_deduplicated_total";
/// Batches that were counted.
pub(crate) const CONSUMED: &str = "llm_bench_batches_consumed_total";

impl Pipeline {
    /// A counter of the service, since the start of its process.
    pub(crate) async fn counter(&self, service: Service, name: &str) -> anyhow::Result<u64> {
        counter_at(self.address(service), name).await
    }

    /// The day that the service takes it to be, as in `Sun, 22 Nov 2026`.
    pub(crate) async fn date(&self, service: Service) -> anyhow::Result<String> {
        const DAY: usize = "Sun, 22 Nov 2026".len();
        let answer = reqwest::get(format!("http://{}/healthz", self.address(service))).await?;
        let date = answer.headers().get("date").context("an answer without date")?;
        let day = date.to_str()?.get(..DAY).context("a short date")?;
        Ok(day.to_owned())
    }

    fn address(&self, service: Service) -> &str {
        match service {
            Service::Simulation => &self.simulation_address,
            Service::Benchmark | Service::Embedded => self.api.url.trim_start_matches("http://"),
        }
    }
}

/// A counter of the service that listens on this address.
pub(crate) async fn counter_at(address: &str, name: &str) -> anyhow::Result<u64> {
    let answer = reqwest::get(format!("http://{address}/metrics")).await?;
    let text = answer.error_for_status()?.text().await?;
    let sample = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .with_context(|| format!("{address} has no metric {name}"))?;
    Ok(sample.trim().parse()?)
}
