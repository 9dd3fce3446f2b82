use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{Simulation, SimulationTelemetry};

/// Ticks at start and then every interval, until shutdown; a tick that is under way is finished.
///
/// A tick that overruns is logged and the next one starts on schedule: ticks missed meanwhile are not made up.
pub(crate) async fn run(
    simulation: Simulation,
    every: Duration,
    metrics: SimulationTelemetry,
    shutdown: CancellationToken,
) {
    let mut schedule = on_schedule(every);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = schedule.tick() => {}
        }
        let started = Instant::now();
        let ticked = tokio::select! {
            biased;
            ticked = simulation.tick() => ticked,
            // A database that is away must not hold up the end: what is stored by then stays.
            () = overdue(&shutdown) => return,
        };
        match ticked {
            Ok(done) => {
                metrics.ticks.inc();
                tracing::info!(
                    tick = done.tick,
                    tick.batches = done.batches,
                    tick.values = done.values,
                    "tick"
                );
            }
            Err(error) => {
                metrics.failed_ticks.inc();
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the tick was given up; the next follows"
                );
            }
        }
        let took = started.elapsed();
        metrics.tick_seconds.observe(took.as_secs_f64());
        if took > every {
            metrics.overruns.inc();
            tracing::warn!(
                tick.seconds = took.as_secs_f64(),
                "the tick took longer than the interval"
            );
        }
    }
}

/// Some seconds after the end has begun.
async fn overdue(shutdown: &CancellationToken) {
    const PATIENCE: Duration = Duration::from_secs(5);
    shutdown.cancelled().await;
    tokio::time::sleep(PATIENCE).await;
}

fn on_schedule(every: Duration) -> Interval {
    let mut schedule = interval(every);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Skip);
    schedule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_overrun_skips_to_the_next_slot_of_the_schedule() {
        let start = Instant::now();
        let mut schedule = on_schedule(Duration::from_secs(10));
        schedule.tick().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(25)).await;
        schedule.tick().await;
        schedule.tick().await;
        assert_eq!(start.elapsed(), Duration::from_secs(30));
    }
}
