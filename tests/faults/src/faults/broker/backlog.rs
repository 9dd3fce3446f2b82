//! The consumer is frozen while the queue grows, in messages or in bytes.

use std::pin::pin;

use anyhow::ensure;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::{
    context::FaultContext,
    outcome::FaultOutcome,
    pipeline::{Expected, Options, Pipeline, PipelineBackends, Service},
};

/// The consumer is frozen while thousands of messages queue up. Then it continues.
pub(super) async fn before_a_frozen_consumer(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let backlog = if context.quick { 2_000 } else { 10_000 };
    let backends = PipelineBackends::create(context).await?;
    let options = Options::default().with("SIMULATION_INTERVAL", 0.08);
    let mut pipeline = Pipeline::start(22, backends, options).await?;

    pipeline.process(Service::Benchmark)?.signal(Signal::SIGSTOP)?;
    let frozen = Instant::now();
    let queued = pipeline.backlog(backlog).await?;
    ensure!(
        pipeline.api.get("/healthz").await.is_err(),
        "I7: the frozen service answered"
    );

    pipeline.process(Service::Benchmark)?.signal(Signal::SIGCONT)?;
    let lasted = frozen.elapsed().as_secs_f64();
    let recovered = pipeline.recovery().await?;
    let evidence = format!("frozen for {lasted:.0} s before {queued} messages");
    pipeline
        .settle_recovered(1, recovered, evidence, &Expected::default())
        .await
}

/// The consumer has received only small batches and is frozen while batches of the largest size queue up. Together they exceed
/// what it may hold.
pub(super) async fn of_the_largest_batches(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    /// The largest number of values of a batch; 2 MB as a message.
    const VALUES: u32 = 100_000;
    /// Their bodies are twice what a consumer may hold at once.
    const BACKLOG: u64 = 60;
    /// What a consumer may hold at once, and one body that may be under way when the prefetch shrinks.
    const HELD: f64 = (64.0 + 3.0) * 1024.0 * 1024.0;
    let backends = PipelineBackends::create(context).await?;
    let mut pipeline = Pipeline::start(22, backends, Options::default()).await?;

    pipeline.process(Service::Benchmark)?.signal(Signal::SIGSTOP)?;
    pipeline.stop(Service::Simulation).await?;
    pipeline.run(Service::Simulation, &[("NUM_DATA_POINTS", VALUES.to_string())])?;
    let queued = pipeline.backlog(BACKLOG).await?;
    pipeline.stop(Service::Simulation).await?;
    pipeline.run(Service::Simulation, &[])?;

    pipeline.process(Service::Benchmark)?.signal(Signal::SIGCONT)?;
    let (recovered, held) = {
        let recovery = pin!(pipeline.recovery());
        let peak = pipeline.peak_of("llm_bench_consumer_held_bytes", recovery);
        peak.await
    };
    let recovered = recovered?;
    ensure!(held > 0.0, "I7: the consumer held nothing at any time");
    ensure!(
        held <= HELD,
        "I5: the consumer held {held} bytes of messages at once"
    );
    let evidence = format!(
        "{queued} messages queued, most of {VALUES} values; at most {:.0} MiB of them held at once",
        held / 1024.0 / 1024.0
    );
    pipeline
        .settle_recovered(1, recovered, evidence, &Expected::default())
        .await
}
