//! The queue loses its messages, disappears, or becomes another one.

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
    pipeline::{Expected, Ground, Options, Pipeline, Service},
    queue,
    servers::Bench,
    verdict::{Verdict, ensure_happened},
};

/// What the broker confirmed and then lost comes back only by the reconciler, which is to hurry.
fn reconciling(options: Options) -> Options {
    options
        .with("RECONCILE_INTERVAL_SECONDS", 1)
        .with("RECONCILE_GRACE_SECONDS", 2)
}

/// The queue is purged and, another time, deleted, while confirmed messages wait in it.
pub(super) async fn messages_lost(bench: &mut Bench) -> anyhow::Result<Verdict> {
    let rounds = if bench.quick { 1 } else { 5 };
    let ground = Ground::prepare(bench).await?;
    let mut pipeline = Pipeline::start(18, ground, reconciling(Options::default())).await?;
    let operator = Client::connect(&pipeline.amqp).await?;
    let (mut purged, mut deleted, mut slowest) = (0, 0, Duration::ZERO);
    for _ in 0..rounds {
        queue_up(&mut pipeline).await?;
        let lost = operator
            .channel()
            .await?
            .queue_purge(queue::QUEUE.into(), QueuePurgeOptions::default())
            .await?;
        purged += u64::from(lost);
        slowest = slowest.max(heal(&mut pipeline, lost).await?);

        queue_up(&mut pipeline).await?;
        let lost = operator.delete(queue::QUEUE).await?;
        deleted += u64::from(lost);
        slowest = slowest.max(heal(&mut pipeline, lost).await?);
    }
    let evidence = format!("{purged} confirmed messages purged, {deleted} deleted with the queue");
    pipeline
        .settle_recovered(purged + deleted, slowest, evidence, &Expected::default())
        .await
}

/// Lets messages wait behind those that the consumer has been sent, which is frozen.
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

/// The queue is deleted and, before a service does so, declared again as another type. Nothing can be done about that
/// until somebody deletes the wrong queue; then both services find their way back.
pub(super) async fn conflict(bench: &mut Bench) -> anyhow::Result<Verdict> {
    let lasting = Duration::from_secs(if bench.quick { 5 } else { 30 });
    let ground = Ground::prepare(bench).await?;
    let pipeline = Pipeline::start(19, ground, reconciling(slowly())).await?;
    let operator = Client::connect(&pipeline.amqp).await?;

    let attempts = usurp(&operator).await?;
    let began = Instant::now();
    for service in Service::BOTH {
        pipeline.names(service, "broker", "PRECONDITION_FAILED").await?;
    }
    let waiting = pipeline.database.balance().await?.unpublished;
    sleep_until(began + lasting).await;
    pipeline.stores().await?;
    for service in Service::BOTH {
        pipeline.names(service, "broker", "PRECONDITION_FAILED").await?;
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

    operator.delete(queue::QUEUE).await?;
    let lasted = began.elapsed().as_secs_f64();
    let recovered = pipeline.recovery().await?;
    let evidence = format!("406 for {lasted:.0} s, attempt {attempts}; {unpublished} batches waited");
    pipeline
        .settle_recovered(1, recovered, evidence, &Expected::default())
        .await
}

/// Puts a classic queue in the place of the quorum queue; gives how many attempts that took.
async fn usurp(operator: &Client) -> anyhow::Result<u32> {
    /// The services declare their queue again some tenths of a second after it was deleted.
    const ATTEMPTS: u32 = 20;
    let mut last = None;
    for attempt in 1..=ATTEMPTS {
        operator.delete(queue::QUEUE).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        let options = QueueDeclareOptions::durable();
        // Where a service was faster, the broker closes the channel.
        let channel = operator.channel().await?;
        let declared = channel.queue_declare(queue::QUEUE.into(), options, arguments);
        match declared.await {
            Ok(_) => return Ok(attempt),
            Err(refused) => last = Some(refused),
        }
    }
    Err(last.context("no attempt")?).context("I7: the services always declared their queue first")
}
