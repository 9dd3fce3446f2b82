//! What the services say of themselves: `/metrics` and `/readyz`.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;

use super::{Pipeline, Service};
use crate::queue;

/// The components that are not ready, each with its reason.
pub(crate) type Missing = BTreeMap<String, String>;

impl Pipeline {
    /// The sum of a metric's samples of all labels.
    pub(crate) async fn metric(&self, service: Service, name: &str) -> anyhow::Result<f64> {
        let (status, page) = self.ask(service, "/metrics").await?;
        ensure!(status == 200, "/metrics answered {status}");
        let samples: Vec<f64> = page
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with([' ', '{']))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
            .collect();
        ensure!(!samples.is_empty(), "{} has no metric {name}", service.program());
        Ok(samples.iter().sum())
    }

    /// A counter, which is a whole number.
    pub(crate) async fn count(&self, service: Service, name: &str) -> anyhow::Result<u64> {
        let counted = self.metric(service, name).await?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter of events is neither negative nor anywhere near 2^53"
        )]
        let whole = counted as u64;
        Ok(whole)
    }

    /// What `/readyz` says is missing; nothing where the service is ready.
    pub(crate) async fn missing(&self, service: Service) -> anyhow::Result<Missing> {
        let (status, page) = self.ask(service, "/readyz").await?;
        let answer: Value = serde_json::from_str(&page)?;
        let components = answer["components"]
            .as_object()
            .context("readiness without components")?;
        let missing: Missing = components
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

    /// Waits until `/readyz` names a component of this kind, for a reason with these words in it.
    pub(crate) async fn names(&self, service: Service, component: &str, words: &str) -> anyhow::Result<()> {
        let what = format!("/readyz of {} names {component}, {words:?}", service.program());
        self.until(&what, async || {
            let missing = self.missing(service).await?;
            Ok(missing
                .iter()
                .any(|(name, reason)| name.starts_with(component) && reason.contains(words)))
        })
        .await
    }

    /// Waits until so many messages wait in the queue, and gives how many there are.
    pub(crate) async fn backlog(&self, at_least: u64) -> anyhow::Result<u64> {
        let connection = Connection::connect(&self.amqp, ConnectionProperties::default()).await?;
        let depth = async || queue::ready(&connection, queue::QUEUE).await;
        self.until(&format!("{at_least} messages are queued"), async || {
            Ok(depth().await? >= at_least)
        })
        .await?;
        let depth = depth().await?;
        connection.close(200, "seen".into()).await?;
        Ok(depth)
    }

    async fn ask(&self, service: Service, path: &str) -> anyhow::Result<(u16, String)> {
        let url = match service {
            Service::Simulation => format!("http://{}{path}", self.simulation_address),
            Service::Benchmark => format!("{}{path}", self.api.url),
        };
        self.api.page(&url).await
    }
}
