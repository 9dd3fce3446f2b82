//! Fault 29: orderly shutdowns while values flow.

use std::{net::Ipv4Addr, time::Duration};

use futures::FutureExt;
use rand::RngExt;
use tokio::time::Instant;

use crate::{
    context::FaultContext,
    fault::Fault,
    outcome::{FaultOutcome, ensure_happened},
    pipeline::{CONSUMED, Expected, Options, Pipeline, PipelineBackends, Service, free_address},
};

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        number: 29,
        name: "SIGTERM in mid-flow",
        quick: true,
        inject: |context| terminations(context).boxed_local(),
    },
    Fault {
        number: 29,
        name: "rolling restart of the benchmark service",
        quick: true,
        inject: |context| rolling_restarts(context).boxed_local(),
    },
];

/// Each working service ends in time and with status 0 after SIGTERM.
async fn terminations(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const LONGEST_WORK: Duration = Duration::from_millis(900);
    let rounds: u64 = if context.quick { 16 } else { 100 };
    let mut random = context.random(29);
    let backends = PipelineBackends::create(context).await?;
    let mut pipeline = Pipeline::start(29, backends, Options::default()).await?;
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        tokio::time::sleep(random.random_range(Duration::ZERO..LONGEST_WORK)).await;
        let service = Service::BOTH[random.random_range(0..Service::BOTH.len())];
        let asked = Instant::now();
        pipeline.stop(service).await?;
        slowest = slowest.max(asked.elapsed());
        pipeline.run(service, &[])?;
        works(&pipeline, service).await?;
    }
    let evidence = format!(
        "seed {}; all {rounds} were at work and ended with status 0, the slowest after {} ms",
        context.seed(),
        slowest.as_millis()
    );
    pipeline.settle(rounds, evidence, &Expected::default()).await
}

/// Waits until a service that was just started has done some work.
async fn works(pipeline: &Pipeline, service: Service) -> anyhow::Result<()> {
    if service == Service::Simulation {
        return pipeline.wait_until_batches_are_stored().await;
    }
    pipeline
        .until("the new process consumes", async || {
            Ok(pipeline.count(service, CONSUMED).await? > 0)
        })
        .await
}

/// A second instance takes over while the first one ends, and the other way round. For a while both consume.
async fn rolling_restarts(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let rounds = if context.quick { 2 } else { 10 };
    let backends = PipelineBackends::create(context).await?;
    let mut pipeline = Pipeline::start(29, backends, Options::default()).await?;
    let mut by_successors = 0;
    for _ in 0..rounds {
        let address = free_address(Ipv4Addr::LOCALHOST.into())?;
        let url = format!("http://{address}");
        let successor = pipeline.spawn(Service::Benchmark, &[], &[("HTTP_ADDR", address)])?;
        pipeline
            .until("both instances consume", async || {
                Ok(pipeline.count_at(&url, CONSUMED).await? > 0)
            })
            .await?;
        pipeline.stop(Service::Benchmark).await?;
        pipeline.wait_until_batches_are_stored().await?;
        pipeline.run(Service::Benchmark, &[])?;
        works(&pipeline, Service::Benchmark).await?;
        by_successors += pipeline.count_at(&url, CONSUMED).await?;
        successor.stop().await?;
    }
    ensure_happened(by_successors, rounds, "batches counted by the second instance")?;
    let evidence = format!("the second instances counted {by_successors} batches");
    pipeline.settle(rounds, evidence, &Expected::default()).await
}
