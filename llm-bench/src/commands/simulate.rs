use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use outbox::{Outbox, OutboxMetrics, OutboxSettings};
use prometheus::Registry;
use service_runtime::lifecycle::Lifecycle;
use simulation_service::{SimulationSettings, prepare};
use storage::Storage;

use crate::{
    cli::Simulate,
    context::{Context, UsageError},
};

/// How long the last batches may take to leave.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn run(options: Simulate, context: Context) -> anyhow::Result<()> {
    let settings = SimulationSettings::read(&context.variables).map_err(UsageError)?;
    let (storage, broker) = (context.storage().await?, context.broker()?);
    let (life, metrics) = (Lifecycle::new(), Registry::new());
    if context.embedded_broker() {
        // Nobody else can consume what this process publishes.
        benchmark_service::consume(&life, Arc::clone(&storage), broker.as_ref(), Arc::clone(&context.clock), &metrics)?;
    }
    let outbox = Outbox::start(
        &life,
        Arc::clone(&storage),
        broker.publisher(),
        OutboxSettings::default(),
        OutboxMetrics::register(&metrics)?,
    );
    let simulation = prepare(Arc::clone(&storage), outbox, Arc::clone(&context.clock), &settings, false).await?;

    let bar = ProgressBar::new(options.ticks)
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} ticks, {per_sec}, {eta} left")?);
    let (mut batches, mut values) = (0, 0);
    for _ in 0..options.ticks {
        let done = simulation.tick().await?;
        batches += done.batches;
        values += done.values;
        bar.inc(1);
    }
    bar.finish_and_clear();
    drop(simulation);

    let sent = tokio::time::timeout(PATIENCE, until_sent(storage.as_ref())).await;
    life.end();
    let drained = life.drained().await;
    broker.close().await;
    sent.with_context(|| {
        format!("stored, but not all published within {PATIENCE:?}: is the broker up? A service publishes the rest")
    })??;
    drained?;
    println!("simulated {} ticks: {batches} batches, {values} values, stored and published", options.ticks);
    Ok(())
}

async fn until_sent(storage: &dyn Storage) -> anyhow::Result<()> {
    while storage.outbox_depth().await?.unpublished > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
