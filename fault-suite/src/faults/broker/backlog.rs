//! The consumer does nothing while the queue grows.

use anyhow::ensure;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::{
    pipeline::{Expected, Ground, Options, Pipeline, Service},
    servers::Bench,
    verdict::Verdict,
};

/// The consumer is frozen, connections and all, while thousands of messages queue up; then it goes on.
pub(super) async fn before_a_frozen_consumer(bench: &mut Bench) -> anyhow::Result<Verdict> {
    let backlog = if bench.quick { 2_000 } else { 10_000 };
    let ground = Ground::prepare(bench).await?;
    let options = Options::default().with("SIMULATION_INTERVAL", 0.08);
    let mut pipeline = Pipeline::start(22, ground, options).await?;

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
