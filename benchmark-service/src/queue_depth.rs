//! The Prometheus metrics of the broker: how many messages wait, and how many this process holds.

use std::{sync::Arc, time::Duration};

use broker::{Broker, PrefetchUsage};
use prometheus::{IntGauge, Opts, Registry};
use service_runtime::scraped;
use tokio_util::sync::CancellationToken;

use crate::telemetry::telemetry;

telemetry! {
    /// The depth of the broker's queues, as of the last time that the broker was asked.
    struct QueueDepth {
        queued: IntGauge = gauge("llm_bench_queue_messages", "Messages that wait in the queue of batches.");
        dead: IntGauge = gauge("llm_bench_dead_letter_messages", "Messages in the queue of dead letters.");
    }
}

impl QueueDepth {
    const INTERVAL: Duration = Duration::from_secs(5);

    /// Asks the broker every few seconds, until shutdown. While the broker cannot be asked, the gauges keep the last
    /// depth: `/readyz` shows that the broker is away.
    pub(crate) async fn watch(self, broker: Arc<dyn Broker>, shutdown: CancellationToken) {
        let depth = |messages| i64::try_from(messages).unwrap_or(i64::MAX);
        let watch = async {
            loop {
                match broker.info().await {
                    Ok(info) => {
                        self.queued.set(depth(info.queued));
                        self.dead.set(depth(info.dead));
                    }
                    Err(error) => tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "the broker cannot be asked for the depth of its queues"
                    ),
                }
                tokio::time::sleep(Self::INTERVAL).await;
            }
        };
        shutdown.run_until_cancelled(watch).await;
    }
}

/// Registers what this process holds of the broker's messages, read at each scrape.
pub(crate) fn register_held_messages(
    registry: &Registry,
    broker: &Arc<dyn Broker>,
) -> prometheus::Result<()> {
    type Read = fn(PrefetchUsage) -> u64;
    let gauges: [(_, _, Read); 3] = [
        (
            "llm_bench_consumer_held_bytes",
            "Bytes of the messages that the broker has delivered and that are not settled.",
            |prefetch_usage| prefetch_usage.bytes,
        ),
        (
            "llm_bench_consumer_held_messages",
            "Messages that the broker has delivered and that are not settled.",
            |prefetch_usage| prefetch_usage.deliveries,
        ),
        (
            "llm_bench_consumer_prefetch_messages",
            "Unsettled messages that the broker may deliver at this moment; it follows the sizes of what came lately.",
            |prefetch_usage| prefetch_usage.prefetch,
        ),
    ];
    for (name, help, value) in gauges {
        let broker = Arc::clone(broker);
        let read = move || value(broker.prefetch_usage()) as f64;
        scraped::gauge(registry, Opts::new(name, help), read)?;
    }
    Ok(())
}
