use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::relay::Relay;

/// Publishes, again and again, what was left unpublished: by a crash, by a broker that was away, by a confirmation
/// that was lost.
pub(crate) async fn run(relay: Arc<Relay>, shutdown: CancellationToken) {
    // Not at once: at the very first start the schema is still being made.
    let every = relay.settings.sweep_interval;
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = sweep_until_empty(&relay) => {}
        }
    }
}

async fn sweep_until_empty(relay: &Relay) {
    measure_depth(relay).await;
    while relay.publisher.link().is_ready() {
        match relay.sweep().await {
            Ok(0) => return,
            Ok(claimed) => tracing::info!(outbox.claimed = claimed, "swept unpublished batches"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the sweep failed; the next one follows"
                );
                return;
            }
        }
    }
}

async fn measure_depth(relay: &Relay) {
    match relay.storage.outbox_depth().await {
        Ok(depth) => relay.metrics.depth(depth),
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the outbox could not be measured"
        ),
    }
}
