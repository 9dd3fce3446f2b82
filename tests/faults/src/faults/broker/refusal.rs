//! The broker refuses: alarms block who publishes, a full queue takes no more.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::{FAILURES, slowly};
use crate::{
    pipeline::{CONSUMED, Expected, Ground, Pipeline, Service},
    queue,
    servers::Bench,
    verdict::{Verdict, ensure_happened},
};

/// How an alarm of the broker is raised and cleared, by arguments of `rabbitmqctl`.
pub(super) struct Alarm {
    raise: [&'static str; 2],
    clear: [&'static str; 2],
    /// The broker's words to the connections that it blocks.
    words: &'static str,
}

/// More memory is used than none; 0.4 is the default.
pub(super) const MEMORY: Alarm = Alarm {
    raise: ["set_vm_memory_high_watermark", "0"],
    clear: ["set_vm_memory_high_watermark", "0.4"],
    words: "blocked: low on memory",
};

/// No disk has as much room; 50 MB is the default.
pub(super) const DISK: Alarm = Alarm {
    raise: ["set_disk_free_limit", "1000000GB"],
    clear: ["set_disk_free_limit", "50MB"],
    words: "blocked: low on disk",
};

/// Whoever publishes is blocked for a while; what is queued goes on being counted.
pub(super) async fn alarm(bench: &mut Bench, fault: u8, alarm: Alarm) -> anyhow::Result<Verdict> {
    const BACKLOG: u64 = 40;
    // Longer than a publish may take to be confirmed, in the full run.
    let lasting = Duration::from_secs(if bench.quick { 4 } else { 30 });
    let ground = Ground::prepare(bench).await?;
    let mut pipeline = Pipeline::start(fault, ground, slowly()).await?;
    let vhost = pipeline.vhost()?;
    let consumed = async |pipeline: &Pipeline| pipeline.count(Service::Benchmark, CONSUMED).await;
    let consumed_before = consumed(&pipeline).await?;

    pipeline.process(Service::Benchmark)?.signal(Signal::SIGSTOP)?;
    pipeline.backlog(BACKLOG).await?;
    pipeline.rabbitmq.rabbitmqctl(&alarm.raise).await?;
    let raised = Instant::now();
    pipeline.names(Service::Simulation, "broker", alarm.words).await?;
    let states = queue::connections(&pipeline.rabbitmq, &vhost).await?;
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
    pipeline.stores().await?;
    sleep(lasting.saturating_sub(raised.elapsed())).await;
    pipeline.names(Service::Simulation, "broker", alarm.words).await?;
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

/// The queue takes so many messages and refuses the rest, while nobody consumes; then somebody does, and then the limit
/// is lifted.
pub(super) async fn queue_full(bench: &mut Bench) -> anyhow::Result<Verdict> {
    const LIMIT: u64 = 40;
    /// A quorum queue begins to refuse some messages late: at most what may be in flight.
    const WINDOW: u64 = 256;
    let lasting = Duration::from_secs(if bench.quick { 3 } else { 20 });
    let ground = Ground::prepare(bench).await?;
    let mut pipeline = Pipeline::start(17, ground, slowly()).await?;
    let vhost = pipeline.vhost()?;
    let policy = format!(r#"{{"max-length":{LIMIT},"overflow":"reject-publish"}}"#);
    let pattern = format!("^{}$", queue::QUEUE);
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
    pipeline.stores().await?;
    let depth = pipeline.backlog(LIMIT).await?;
    ensure!(
        (LIMIT..=LIMIT + WINDOW).contains(&depth),
        "I7: {depth} messages in a queue for {LIMIT}"
    );
    let unconfirmed = unconfirmed().await?;

    pipeline.run(Service::Benchmark, &[])?;
    pipeline.flows().await?;
    let clear_policy = ["clear_policy", "-p", &vhost, "full"];
    pipeline.rabbitmq.rabbitmqctl(&clear_policy).await?;
    let recovered = pipeline.recovery().await?;
    let evidence = format!("{unconfirmed} publishes not confirmed, the queue held {depth} of {LIMIT}");
    pipeline
        .settle_recovered(1, recovered, evidence, &Expected::default())
        .await
}
