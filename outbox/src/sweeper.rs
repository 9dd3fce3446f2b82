use std::sync::Arc;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::relay::Relay;

/// Publishes, again and again, what was left unpublished: by a crash, by a broker that was away, by a confirmation
/// that was lost.
pub(crate) async fn run(relay: Arc<Relay>, shutdown: CancellationToken) {
    let sweeping = async {
        let mut ticks = ticks(&relay);
        loop {
            ticks.tick().await;
            sweep(&relay).await;
        }
    };
    shutdown.run_until_cancelled(sweeping).await;
}

/// Measures the outbox in the sweeper's rhythm, also while a sweep takes long.
pub(crate) async fn measure(relay: Arc<Relay>, shutdown: CancellationToken) {
    let measuring = async {
        let mut ticks = ticks(&relay);
        loop {
            ticks.tick().await;
            match relay.storage.outbox_depth().await {
                Ok(depth) => relay.metrics.depth(depth),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the outbox could not be measured"
                ),
            }
        }
    };
    shutdown.run_until_cancelled(measuring).await;
}

fn ticks(relay: &Relay) -> Interval {
    // Not at once: at the very first start the schema is still being made.
    let every = relay.settings.sweep_interval;
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn sweep(relay: &Relay) {
    match relay.sweep().await {
        Ok(0) => {}
        Ok(claimed) => tracing::info!(outbox.claimed = claimed, "swept unpublished batches"),
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the sweep failed; the next one follows"
        ),
    }
}
