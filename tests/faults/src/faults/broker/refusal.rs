//! The broker refuses messages: alarms block publishers, a full queue accepts no more.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::{FAILURES, slowly};
use crate::{
    context::FaultContext,
    outcome::{FaultOutcome, ensure_happened},
    pipeline::{CONSUMED, Expected, Pipeline, PipelineBackends, Service},
    queues,
};

/// The arguments of `rabbitmqctl` that raise and clear an alarm of the broker.
pub(super) struct Alarm {
    raise: [&'static str; 2],
    clear: [&'static str; 2],
    /// The reason that the broker gives to the connections that it blocks.
    words: &'static str,
}

/// The alarm is raised above 0 bytes of memory; the default limit is 0.4.
pub(super) const MEMORY: Alarm = Alarm {
    raise: ["set_vm_memory_high_watermark", "0"],
    clear: ["set_vm_memory_high_watermark", "0.4"],
    words: "blocked: low on memory",
};

/// The alarm is raised below more free space than any disk has; the default limit is 50 MB.
pub(super) const DISK: Alarm = Alarm {
    raise: ["set_disk_free_limit", "1000000GB"],
    clear: ["set_disk_free_limit", "50MB"],
    words: "blocked: low on disk",
};

/// Publishers are blocked for a while. Queued batches are still counted.
pub(super) async fn alarm(
    context: &mut FaultContext,
    fault: u8,
    alarm: Alarm,
) -> anyhow::Result<FaultOutcome> {
    const BACKLOG: u64 = 40;
    // In the full run longer than the time limit of a publish.
    let lasting = Duration::from_secs(if context.quick { 4 } else { 30 });
    let backends = PipelineBackends::create(context).await?;
    let mut pipeline = Pipeline::start(fault, backends, slowly()).await?;
    let vhost = pipeline.vhost()?;
    let consumed = async |pipeline: &Pipeline| pipeline.count(Service::Benchmark, CONSUMED).await;
    let consumed_before = consumed(&pipeline).await?;

    pipeline.process(Service::Benchmark)?.signal(Signal::SIGSTOP)?;
    pipeline.backlog(BACKLOG).await?;
    pipeline.rabbitmq.rabbitmqctl(&alarm.raise).await?;
    let raised = Instant::now();
    pipeline
        .wait_until_missing(Service::Simulation, "broker", alarm.words)
        .await?;
    let states = queues::connections(&pipeline.rabbitmq, &vhost).await?;
    let blocked = states.values().filter(|state| *state == "blocked").count();
    ensure!(blocked > 0, "I7: no connection is blocked: {states:?}");

    pipeline.process(Service::Benchmark)?.signal(Signal::SIGCONT)?;
    pipeline
        .until(
            "all that is queued is counted in spite of the alarm",
            async || {
                let balance = pipeline.database.balance().await?;
                Ok(balance.uncounted <= balance.unpublished)
            },
        )
        .await?;
    let counted = consumed(&pipeline).await? - consumed_before;
    ensure_happened(counted, BACKLOG, "batches counted during the alarm")?;
    pipeline.wait_until_batches_are_stored().await?;
    sleep(lasting.saturating_sub(raised.elapsed())).await;
    pipeline
        .wait_until_missing(Service::Simulation, "broker", alarm.words)
        .await?;
    let unpublished = pipeline.database.balance().await?.unpublished;
    ensure_happened(
        unpublished.try_into().unwrap_or(0),
        1,
        "batches stored and unpublished",
    )?;

    pipeline.rabbitmq.rabbitmqctl(&alarm.clear).await?;
    let lasted = raised.elapsed().as_secs_f64();
    let recovered = pipeline.recovery().await?;
    let evidence = format!(
        "{blocked} connections blocked for {lasted:.0} s, {counted} batches counted meanwhile, {unpublished} waited"
    );
    pipeline
        .settle_recovered(1, recovered, evidence, &Expected::default())
        .await
}

/// The queue has a limit and refuses further messages while nothing consumes. Then a consumer starts, and then the limit is
/// removed.
pub(super) async fn queue_full(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const LIMIT: u64 = 40;
    /// A quorum queue starts to refuse late, by at most the number of unconfirmed publishes.
    const WINDOW: u64 = 256;
    let lasting = Duration::from_secs(if context.quick { 3 } else { 20 });
    let backends = PipelineBackends::create(context).await?;
    let mut pipeline = Pipeline::start(17, backends, slowly()).await?;
    let vhost = pipeline.vhost()?;
    let policy = format!(r#"{{"max-length":{LIMIT},"overflow":"reject-publish"}}"#);
    let pattern = format!("^{}$", queues::QUEUE);
    let set_policy = ["set_policy", "-p", &vhost, "full", &pattern, &policy];
    pipeline.rabbitmq.rabbitmqctl(&set_policy).await?;
    pipeline.stop(Service::Benchmark).await?;
    let failed_before = pipeline.count(Service::Simulation, FAILURES).await?;

    pipeline.backlog(LIMIT).await?;
    let unconfirmed = async || {
        let failed = pipeline.count(Service::Simulation, FAILURES).await?;
        anyhow::Ok(failed - failed_before)
    };
    pipeline
        .until("publishes are not confirmed", async || {
            Ok(unconfirmed().await? > LIMIT)
        })
        .await?;
    sleep(lasting).await;
    pipeline.wait_until_batches_are_stored().await?;
    let depth = pipeline.backlog(LIMIT).await?;
    ensure!(
        (LIMIT..=LIMIT + WINDOW).contains(&depth),
        "I7: {depth} messages in a queue for {LIMIT}"
    );
    let unconfirmed = unconfirmed().await?;

    pipeline.run(Service::Benchmark, &[])?;
    pipeline.wait_until_values_flow().await?;
    let clear_policy = ["clear_policy", "-p", &vhost, "full"];
    pipeline.rabbitmq.rabbitmqctl(&clear_policy).await?;
    let recovered = pipeline.recovery().await?;
    let evidence = format!("{unconfirmed} publishes not confirmed, the queue held {depth} of {LIMIT}");
    pipeline
        .settle_recovered(1, recovered, evidence, &Expected::default())
        .await
}
