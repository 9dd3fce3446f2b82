use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use benchmark_service::{Service as BenchmarkService, Settings as BenchmarkSettings};
use simulation_service::{SimulationSettings, TickReport, prepare};
use storage::Storage;

use crate::{
    assembly::Assembly,
    cli::Simulate,
    context::{Context, UsageError},
    progress::progress_bar,
    say::say,
};

/// How long the publication of the last batches may take.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) async fn run(options: Simulate, context: Context) -> anyhow::Result<()> {
    let settings = SimulationSettings::read(&context.variables).map_err(UsageError)?;
    let assembly = Assembly::of(&context, context.storage().await?)?;
    if context.embedded_broker() {
        consume_in_this_process(&context, &assembly)?;
    }
    let total = tick(&options, &settings, &assembly).await?;
    let sent = tokio::time::timeout(PUBLISH_TIMEOUT, until_sent(assembly.storage.as_ref())).await;
    assembly.end().await?;
    sent.with_context(|| {
        format!("stored, but not all published within {PUBLISH_TIMEOUT:?}: is the broker up? A service publishes the rest")
    })??;
    say!(
        "simulated {} ticks: {} batches, {} values, stored and published",
        options.ticks,
        total.batches,
        total.values
    );
    Ok(())
}

/// Starts a benchmark service in this process: no other process can consume from the embedded broker.
fn consume_in_this_process(context: &Context, assembly: &Assembly) -> anyhow::Result<()> {
    let settings = BenchmarkSettings {
        http_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..BenchmarkSettings::read(&context.variables).map_err(UsageError)?
    };
    BenchmarkService::build(settings, assembly.for_benchmark(), &assembly.life)?.start();
    Ok(())
}

/// Runs the ticks; returns the number of the last one and the sums of batches and values.
async fn tick(
    options: &Simulate,
    settings: &SimulationSettings,
    assembly: &Assembly,
) -> anyhow::Result<TickReport> {
    let simulation = prepare(settings, &assembly.for_simulation()).await?;
    let bar = progress_bar(options.ticks, "ticks")?;
    let mut total = TickReport {
        tick: 0,
        batches: 0,
        values: 0,
    };
    for _ in 0..options.ticks {
        let done = simulation.tick().await?;
        total = TickReport {
            tick: done.tick,
            batches: total.batches + done.batches,
            values: total.values + done.values,
        };
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(total)
}

pub(super) async fn until_sent(storage: &dyn Storage) -> anyhow::Result<()> {
    while storage.outbox_depth().await?.unpublished > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
