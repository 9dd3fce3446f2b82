//! The benchmark service as a process of its own: settings → logs → connect → run → drain.

#![expect(clippy::print_stderr, reason = "one line when the start fails")]

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use benchmark_service::{Dependencies, Service, Settings};
use outbox::Outbox;
use service_runtime::{
    failpoints,
    lifecycle::{Lifecycle, Signals},
    operations::metrics_registry,
    settings::{CommonSettings, Variables},
    telemetry,
};
use shared_types::{Clock, SystemClock};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark-service: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let signals = Signals::listen().context("listening for signals")?;
    failpoints::arm();
    let variables = Variables::from_process()?;
    let (common, settings) = (CommonSettings::read(&variables)?, Settings::read(&variables)?);
    common.broker.between_processes()?;
    telemetry::init(&common.log)?;

    let (life, registry) = (Lifecycle::new(), metrics_registry()?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let storage = backends::storage(&common.database, Arc::clone(&clock))?;
    let broker = backends::broker(&common.broker, Arc::clone(&clock))?;
    let dependencies = Dependencies {
        outbox: Outbox::standard(&life, Arc::clone(&storage), broker.publisher(), &registry)?,
        storage: Arc::clone(&storage),
        broker: Arc::clone(&broker),
        clock,
        telemetry: registry,
    };
    Service::build(settings, dependencies, &life)?.start();

    life.until_signalled(signals, common.shutdown_grace).await;
    let drained = life.drained().await;
    broker.close().await;
    storage.close().await;
    Ok(drained?)
}
