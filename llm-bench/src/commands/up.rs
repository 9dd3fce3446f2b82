use std::{io::IsTerminal, path::PathBuf, sync::Arc};

use benchmark_service::{AccessPolicy, Service as BenchmarkService, Settings as BenchmarkSettings};
use service_runtime::{
    Secret,
    lifecycle::Lifecycle,
    operations::metrics_registry,
    settings::{DatabaseKind, Variables, data_dir},
    telemetry,
};
use simulation_service::{Service as SimulationService, SimulationSettings};
use tempfile::TempDir;

use super::keys;
use crate::{
    cli::Up,
    context::{Context, UsageError},
};

/// Everything that `up` was told.
struct Plan {
    context: Context,
    simulation: Option<SimulationSettings>,
    benchmark: BenchmarkSettings,
    /// Kept until the end, then removed.
    _ephemeral: Option<TempDir>,
}

pub async fn run(options: Up) -> anyhow::Result<()> {
    let mut plan = plan(options)?;
    telemetry::init(&plan.context.settings.log)?;
    let storage = plan.context.storage_as_it_is()?;
    let life = Lifecycle::new();
    if plan.context.settings.migrate_at_start {
        storage::migrated(storage.as_ref()).await?;
    }
    let first_key = open_to_loopback(&mut plan, storage.as_ref()).await?;

    let broker = plan.context.broker()?;
    let (metrics, clock) = (metrics_registry()?, &plan.context.clock);
    let benchmark = BenchmarkService::build(
        plan.benchmark.clone(),
        Arc::clone(&storage),
        Arc::clone(&broker),
        Arc::clone(clock),
        &metrics,
    )?;
    let address = benchmark.addr();
    benchmark.start(&life);
    if let Some(settings) = plan.simulation.clone() {
        let simulation = SimulationService::build(
            settings,
            Arc::clone(&storage),
            Arc::clone(&broker),
            Arc::clone(clock),
            &metrics,
        )?;
        simulation.start(&life, false);
    }
    announce(&plan, &format!("http://{address}"), first_key.as_ref());

    life.until_signalled().await?;
    let drained = life.drained().await;
    broker.close().await;
    storage.close().await;
    drained?;
    println!("stopped; everything that was under way is stored");
    Ok(())
}
