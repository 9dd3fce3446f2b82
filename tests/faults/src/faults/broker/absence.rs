//! The broker is unreachable: dead, stopped, frozen, or without connections.

use std::time::Duration;

use anyhow::ensure;
use rand::RngExt;
use tokio::time::{Instant, sleep_until};

use super::{FAILURES, slowly};
use crate::{
    context::FaultContext,
    outcome::{FaultOutcome, ensure_happened},
    pipeline::{Expected, Options, Pipeline, PipelineBackends, Service},
    queues,
};

const SWEPT: &str = "llm_bench_outbox_swept_total";

/// The broker is killed with SIGKILL, at moments that depend on the seed, and started again on the same data.
pub(super) async fn killed(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let kills = if context.quick { 1 } else { 5 };
    let mut random = context.random(7);
    let backends = PipelineBackends::create(context).await?;
    let pipeline = Pipeline::start(7, backends, slowly()).await?;
    // RabbitMQ 3.10.8 never revives a quorum queue that is killed within seconds of its first declaration; after an
    // orderly restart it does.
    pipeline.rabbitmq.restart().await?;
    pipeline.wait_until_values_flow().await?;

    let mut recovered = Duration::ZERO;
    for _ in 0..kills {
        let life = random.random_range(Duration::ZERO..Duration::from_secs(1));
        tokio::time::sleep(life).await;
        pipeline.rabbitmq.kill().await?;
        pipeline.wait_until_batches_are_stored().await?;
        pipeline
            .wait_until_missing(Service::Simulation, "broker", "")
            .await?;
        pipeline
            .wait_until_missing(Service::Benchmark, "broker_consume", "")
            .await?;
        pipeline.rabbitmq.start_again().await?;
        recovered = recovered.max(pipeline.recovery().await?);
    }
    let evidence = format!(
        "{} batches swept",
        pipeline.count(Service::Simulation, SWEPT).await?
    );
    pipeline
        .settle_recovered(kills, recovered, evidence, &Expected::default())
        .await
}

/// The broker is stopped for much longer than all retries of the services take together.
pub(super) async fn away(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let absence = Duration::from_secs(if context.quick { 15 } else { 120 });
    let backends = PipelineBackends::create(context).await?;
    let options = slowly().with("MAX_RETRIES", 1).with("RETRY_DELAY_MS", 50);
    let pipeline = Pipeline::start(8, backends, options).await?;

    pipeline.rabbitmq.stop().await?;
    let away = Instant::now();
    pipeline
        .wait_until_missing(Service::Simulation, "broker", "")
        .await?;
    pipeline
        .wait_until_missing(Service::Benchmark, "broker_publish", "")
        .await?;
    pipeline
        .wait_until_missing(Service::Benchmark, "broker_consume", "")
        .await?;
    let waiting = pipeline.database.balance().await?.unpublished;
    while away.elapsed() < absence {
        pipeline.wait_until_batches_are_stored().await?;
        for service in Service::BOTH {
            let missing = pipeline.missing(service).await?;
            ensure!(
                missing.keys().any(|component| component.starts_with("broker")),
                "I7: {service:?} misses no broker but {missing:?}"
            );
        }
        let (alive, _) = pipeline.api.get("/healthz").await?;
        ensure!(alive == 200, "the liveness is {alive} while the broker is away");
        ensure!(
            !pipeline.api.rankings().await?.is_empty(),
            "no rankings while the broker is away"
        );
        sleep_until(Instant::now() + Duration::from_secs(1)).await;
    }
    let unpublished = pipeline.database.balance().await?.unpublished - waiting;
    ensure_happened(
        unpublished.try_into().unwrap_or(0),
        absence.as_secs(),
        "batches stored and unpublished",
    )?;
    let failures = pipeline.count(Service::Simulation, FAILURES).await?;
    ensure_happened(failures, absence.as_secs(), "publishes that failed")?;

    pipeline.rabbitmq.start_again().await?;
    let recovered = pipeline.recovery().await?;
    let swept = pipeline.count(Service::Simulation, SWEPT).await?;
    let evidence = format!("{absence:?} away, {failures} publishes failed, {swept} swept");
    pipeline
        .settle_recovered(1, recovered, evidence, &Expected::default())
        .await
}

/// The broker closes all connections, waits until all are back, and does it again.
pub(super) async fn connections_closed(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    /// The simulation publishes; the benchmark service publishes and consumes.
    const CONNECTIONS: usize = 3;
    let rounds = if context.quick { 2 } else { 20 };
    let backends = PipelineBackends::create(context).await?;
    let pipeline = Pipeline::start(9, backends, slowly()).await?;
    let (server, vhost) = (&pipeline.rabbitmq, pipeline.vhost()?);
    let listed = async || queues::connections(server, &vhost).await;
    let (mut replaced, mut recovered) = (0, Duration::ZERO);
    for _ in 0..rounds {
        // The broker may list a connection later than its client has got it.
        pipeline
            .until("all connections are listed", async || {
                Ok(listed().await?.len() >= CONNECTIONS)
            })
            .await?;
        let before = listed().await?;
        server.close_all_connections("a fault").await?;
        recovered = recovered.max(pipeline.recovery().await?);
        let now = listed().await?;
        let kept = now.keys().filter(|pid| before.contains_key(*pid)).count();
        ensure!(
            kept == 0,
            "I7: {kept} connections were not closed: {before:?}, {now:?}"
        );
        replaced += before.len();
    }
    ensure_happened(
        replaced as u64,
        rounds * CONNECTIONS as u64,
        "connections replaced",
    )?;
    let evidence = format!(
        "{replaced} connections replaced, {} deliveries unsettled",
        pipeline
            .count(Service::Benchmark, "llm_bench_unsettled_deliveries_total")
            .await?
    );
    pipeline
        .settle_recovered(rounds, recovered, evidence, &Expected::default())
        .await
}

/// The broker keeps its connections and answers nothing, until both services have noticed; then it goes on.
pub(super) async fn frozen(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const HEARTBEAT: Duration = Duration::from_secs(2);
    let longer = if context.quick { 4 } else { 20 };
    let backends = PipelineBackends::create(context).await?;
    let options = Options {
        amqp: Some(format!("{}?heartbeat={}", backends.amqp, HEARTBEAT.as_secs())),
        ..slowly()
    };
    let pipeline = Pipeline::start(12, backends, options).await?;
    let failed_before = pipeline.count(Service::Simulation, FAILURES).await?;

    pipeline.rabbitmq.freeze().await?;
    let frozen = Instant::now();
    pipeline
        .wait_until_missing(Service::Simulation, "broker", "")
        .await?;
    pipeline
        .wait_until_missing(Service::Benchmark, "broker_publish", "")
        .await?;
    pipeline
        .wait_until_missing(Service::Benchmark, "broker_consume", "")
        .await?;
    let noticed = frozen.elapsed();
    pipeline.wait_until_batches_are_stored().await?;
    ensure!(
        !pipeline.api.rankings().await?.is_empty(),
        "no rankings while the broker is frozen"
    );
    sleep_until(frozen + longer * HEARTBEAT).await;
    let failures = pipeline.count(Service::Simulation, FAILURES).await? - failed_before;
    ensure_happened(failures, 1, "publishes that failed")?;
    let lasted = frozen.elapsed();
    ensure!(lasted > 2 * HEARTBEAT, "I7: frozen for {lasted:?} only");

    pipeline.rabbitmq.thaw()?;
    let recovered = pipeline.recovery().await?;
    let evidence = format!(
        "noticed after {:.1} s of {:.0} s, {failures} publishes failed",
        noticed.as_secs_f64(),
        lasted.as_secs_f64()
    );
    pipeline
        .settle_recovered(1, recovered, evidence, &Expected::default())
        .await
}
