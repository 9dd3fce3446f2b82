//! The queue loses its messages, is deleted, or is replaced by one of another type.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use lapin::{
    options::{QueueDeclareOptions, QueuePurgeOptions},
    types::{AMQPValue, FieldTable},
};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until};

use super::{publisher::Client, slowly};
use crate::{
    context::FaultContext,
    outcome::{FaultOutcome, ensure_happened},
    pipeline::{Expected, Options, Pipeline, PipelineBackends, Service},
    queues,
};

/// Makes the reconciler fast: only it publishes messages again that the broker confirmed and then lost.
fn reconciling(options: Options) -> Options {
    options
        .with("RECONCILE_INTERVAL_SECONDS", 1)
        .with("RECONCILE_GRACE_SECONDS", 2)
}

/// The queue is purged, and later deleted, while confirmed messages are in it.
pub(super) async fn messages_lost(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let rounds = if context.quick { 1 } else { 5 };
    let backends = PipelineBackends::create(context).await?;
    let mut pipeline = Pipeline::start(18, backends, reconciling(Options::default())).await?;
    let operator = Client::connect(&pipeline.amqp).await?;
    let (mut purged, mut deleted, mut slowest) = (0, 0, Duration::ZERO);
    for _ in 0..rounds {
        queue_up(&mut pipeline).await?;
        let lost = operator
            .channel()
            .await?
            .queue_purge(queues::QUEUE.into(), QueuePurgeOptions::default())
            .await?;
        purged += u64::from(lost);
        slowest = slowest.max(heal(&mut pipeline, lost).await?);

        queue_up(&mut pipeline).await?;
        let lost = operator.delete(queues::QUEUE).await?;
        deleted += u64::from(lost);
        slowest = slowest.max(heal(&mut pipeline, lost).await?);
    }
    let evidence = format!("{purged} confirmed messages purged, {deleted} deleted with the queue");
    pipeline
        .settle_recovered(purged + deleted, slowest, evidence, &Expected::default())
        .await
}

/// Freezes the consumer until messages are ready in the queue.
async fn queue_up(pipeline: &mut Pipeline) -> anyhow::Result<()> {
    const WAITING: u64 = 50;
    pipeline.process(Service::Benchmark)?.signal(Signal::SIGSTOP)?;
    pipeline.backlog(WAITING).await?;
    Ok(())
}

async fn heal(pipeline: &mut Pipeline, lost: u32) -> anyhow::Result<Duration> {
    ensure_happened(lost.into(), 1, "messages lost")?;
    let balance = pipeline.database.balance().await?;
    let gone = balance.uncounted - balance.unpublished;
    ensure!(
        gone >= lost.into(),
        "I7: {lost} messages lost, {gone} batches confirmed and uncounted"
    );
    pipeline.process(Service::Benchmark)?.signal(Signal::SIGCONT)?;
    pipeline.recovery().await
}

/// The queue is deleted and declared as another type before a service declares it again. The services cannot work until the
/// operator deletes that queue; then both recover.
pub(super) async fn conflict(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let lasting = Duration::from_secs(if context.quick { 5 } else { 30 });
    let backends = PipelineBackends::create(context).await?;
    let pipeline = Pipeline::start(19, backends, reconciling(slowly())).await?;
    let operator = Client::connect(&pipeline.amqp).await?;

    let attempts = replace_queue(&operator).await?;
    let began = Instant::now();
    for service in Service::BOTH {
        pipeline
            .wait_until_missing(service, "broker", "PRECONDITION_FAILED")
            .await?;
    }
    let waiting = pipeline.database.balance().await?.unpublished;
    sleep_until(began + lasting).await;
    pipeline.wait_until_batches_are_stored().await?;
    for service in Service::BOTH {
        pipeline
            .wait_until_missing(service, "broker", "PRECONDITION_FAILED")
            .await?;
    }
    ensure!(
        !pipeline.api.rankings().await?.is_empty(),
        "no rankings during the conflict"
    );
    let unpublished = pipeline.database.balance().await?.unpublished;
    ensure!(
        unpublished > waiting,
        "I7: {waiting} batches waited, {unpublished} wait now"
    );

    operator.delete(queues::QUEUE).await?;
    let lasted = began.elapsed().as_secs_f64();
    let recovered = pipeline.recovery().await?;
    let evidence = format!("406 for {lasted:.0} s, attempt {attempts}; {unpublished} batches waited");
    pipeline
        .settle_recovered(1, recovered, evidence, &Expected::default())
        .await
}

/// Replaces the quorum queue by a classic queue. Returns how many attempts that took.
async fn replace_queue(operator: &Client) -> anyhow::Result<u32> {
    /// The services declare their queue again within some tenths of a second.
    const ATTEMPTS: u32 = 20;
    let mut last = None;
    for attempt in 1..=ATTEMPTS {
        operator.delete(queues::QUEUE).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        let options = QueueDeclareOptions::durable();
        // The broker closes the channel where a service was faster.
        let channel = operator.channel().await?;
        let declared = channel.queue_declare(queues::QUEUE.into(), options, arguments);
        match declared.await {
            Ok(_) => return Ok(attempt),
            Err(refused) => last = Some(refused),
        }
    }
    Err(last.context("no attempt")?).context("I7: the services always declared their queue first")
}
