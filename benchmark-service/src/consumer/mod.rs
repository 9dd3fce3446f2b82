//! Counts what the queue delivers: micro-batches, one transaction each, acknowledged after the commit.
//!
//! - A message is acknowledged or rejected as a whole. If any of its batches is refused, the message goes to the dead
//!   letters with the reason. Its other batches have been counted by then; a replay does not count them again.
//! - While the database is away, the consumer **holds** the deliveries: it reads no more of them and tries the same
//!   transaction again with growing pauses. It returns none to the queue, because RabbitMQ counts redeliveries and
//!   would dead-letter messages that nothing is wrong with. The ledger decides whether an earlier attempt was committed.
//! - While a rebuild holds the statistics of PostgreSQL, nothing can be counted for minutes or hours: the consumer returns
//!   all deliveries to the queue at once and takes none until the rebuild is over. (RabbitMQ closes channels that leave a
//!   delivery unacknowledged for half an hour.) With SQLite it holds them, as with any locked file.
//! - If a transaction fails permanently, the consumer bisects the micro-batch until single messages are left. Such a
//!   message goes to the dead letters only if the database has accepted other messages of the same micro-batch after
//!   the first fault. Otherwise the fault may be the database's (a permission was lost, the disk is full), and the
//!   consumer holds the messages as if the database were away.

mod collect;
mod micro_batch;
mod state;
mod telemetry;

use std::{
    num::NonZeroU16,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use broker::{Broker, Delivery, Prefetch, SettleError, Subscription};
use futures::future::join_all;
use prometheus::Registry;
use shared_types::{Clock, ErrorChain, MetricBatch, message};
use storage::{Applied, Storage, StorageError};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use collect::MicroBatchLimits;
use micro_batch::{Message, MicroBatch};
pub(crate) use state::ConsumerState;
use telemetry::{ConsumerTelemetry, RejectionKind};

/// The consumer of the queue of batches.
#[derive(Debug)]
pub struct Consumer {
    storage: Arc<dyn Storage>,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    committed: Arc<Notify>,
    state: Arc<ConsumerState>,
    telemetry: ConsumerTelemetry,
}

/// Why unsettled deliveries return to the queue.
enum Interruption {
    /// The process is ending.
    Shutdown,
    /// The statistics are being rebuilt.
    Rebuild,
}

/// The broker ended the subscription before the shutdown.
#[derive(Debug, thiserror::Error)]
#[error("the subscription to the queue ended")]
pub struct SubscriptionEnded;

/// A message whose transaction fails permanently although it holds no other message.
struct FailedMessage {
    message: Message,
    fault: StorageError,
}

impl Consumer {
    const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);
    /// Two micro-batches: one is being committed while the next is collected. 256 messages of the usual 8 to 20 KB
    /// have up to 5 MB; larger messages are limited by their bytes.
    const PREFETCH: Prefetch = Prefetch::messages(NonZeroU16::new(256).expect("not zero"));
    /// How often the consumer asks whether a rebuild is over.
    const REBUILD_POLL_INTERVAL: Duration = Duration::from_secs(1);

    /// A consumer that notifies `committed` after each transaction that may have changed the statistics.
    ///
    /// # Errors
    /// `registry` has the metrics of a consumer already.
    pub fn new(
        storage: Arc<dyn Storage>,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        committed: Arc<Notify>,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            storage,
            broker,
            clock,
            committed,
            state: Arc::default(),
            telemetry: ConsumerTelemetry::register(registry)?.with_every_reason(),
        })
    }

    pub(crate) fn state(&self) -> &Arc<ConsumerState> {
        &self.state
    }

    /// Consumes until shutdown, except during a rebuild of the statistics.
    ///
    /// # Errors
    /// The broker ended the subscription before the shutdown.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), SubscriptionEnded> {
        self.state.running.store(true, Ordering::Relaxed);
        let consumer = Arc::new(self);
        let ended = loop {
            match Arc::clone(&consumer).consume(&shutdown).await {
                Ok(Interruption::Shutdown) => break Ok(()),
                Ok(Interruption::Rebuild) => consumer.wait_for_rebuild(&shutdown).await,
                Err(ended) => break Err(ended),
            }
        };
        consumer.state.running.store(false, Ordering::Relaxed);
        ended
    }

    /// Consumes until it is interrupted. While one micro-batch is being committed, the next one is gathered and decoded,
    /// in a task of its own: decoding is the larger part of the work.
    async fn consume(
        self: Arc<Self>,
        shutdown: &CancellationToken,
    ) -> Result<Interruption, SubscriptionEnded> {
        let ending = shutdown.child_token();
        let subscription = self.broker.subscribe(Self::PREFETCH);
        let (decoded, micro_batches) = mpsc::channel(1);
        let gathering = tokio::spawn(Arc::clone(&self).gather(subscription, decoded, ending.clone()));
        let interruption = self.count_all(micro_batches, shutdown).await;
        if matches!(interruption, Interruption::Rebuild) {
            ending.cancel();
        }
        // Either end of the channel that is dropped ends the other side too.
        gathering
            .await
            .unwrap_or_else(|crashed| std::panic::resume_unwind(crashed.into_panic()))?;
        Ok(interruption)
    }

    /// Waits until a rebuild of the statistics is over, or has failed. Nothing is taken from the queue meanwhile.
    async fn wait_for_rebuild(&self, shutdown: &CancellationToken) {
        tracing::info!("the statistics are being rebuilt; the batches stay in the queue until that is over");
        self.state.holding.store(false, Ordering::Relaxed);
        self.telemetry.holding.set(0);
        self.state.rebuilding.store(true, Ordering::Relaxed);
        let over = async {
            loop {
                tokio::time::sleep(Self::REBUILD_POLL_INTERVAL).await;
                match self.storage.is_rebuilding().await {
                    Ok(true) => {}
                    Err(error) if error.is_transient() => {}
                    // Of another fault consuming will tell more.
                    Ok(false) | Err(_) => break,
                }
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = over => tracing::info!("the rebuild of the statistics is over; going on"),
        }
        self.state.rebuilding.store(false, Ordering::Relaxed);
    }

    async fn gather(
        self: Arc<Self>,
        mut subscription: Box<dyn Subscription>,
        decoded: mpsc::Sender<MicroBatch>,
        shutdown: CancellationToken,
    ) -> Result<(), SubscriptionEnded> {
        while let Some(deliveries) = MicroBatchLimits::DEFAULT
            .collect(subscription.as_mut(), &shutdown)
            .await
        {
            let (mut messages, mut poison) = (Vec::with_capacity(deliveries.len()), Vec::new());
            for delivery in deliveries {
                if delivery.redelivered {
                    self.telemetry.redelivered.inc();
                }
                match message::decode(&delivery.body) {
                    Ok(batches) => messages.push(Message { delivery, batches }),
                    Err(refused) => poison.push((delivery, refused.to_string())),
                }
            }
            if decoded.send(MicroBatch::of(messages)).await.is_err() {
                return Ok(());
            }
            let rejections = poison.into_iter().map(async |(delivery, reason)| {
                self.reject(delivery, RejectionKind::Undecodable, &reason).await;
            });
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                _ = join_all(rejections) => {}
            }
        }
        if shutdown.is_cancelled() {
            Ok(())
        } else {
            Err(SubscriptionEnded)
        }
    }

    /// Counts until it is interrupted, or nothing more comes: at shutdown, and when the subscription has ended.
    async fn count_all(
        &self,
        mut micro_batches: mpsc::Receiver<MicroBatch>,
        shutdown: &CancellationToken,
    ) -> Interruption {
        while let Some(micro_batch) = micro_batches.recv().await {
            if let Err(interruption) = self.count(micro_batch, shutdown).await {
                return interruption;
            }
        }
        Interruption::Shutdown
    }

    /// Counts and settles every message of the micro-batch. Holds the messages whose failure may be the database's.
    async fn count(
        &self,
        mut micro_batch: MicroBatch,
        shutdown: &CancellationToken,
    ) -> Result<(), Interruption> {
        let mut pause = Self::SHORTEST_PAUSE;
        loop {
            let (failed, writable) = self.bisect(micro_batch, shutdown).await?;
            let Some(first) = failed.first() else {
                return Ok(());
            };
            if writable {
                return self.reject_failed(failed, shutdown).await;
            }
            if !self.hold(true) {
                tracing::error!(
                    error = &first.fault as &dyn std::error::Error,
                    messages = failed.len(),
                    "the database refuses what it is given; holding the batches"
                );
            }
            self.pause(&mut pause, shutdown).await?;
            micro_batch = MicroBatch::of(failed.into_iter().map(|failed| failed.message).collect());
        }
    }

    /// Counts and settles the micro-batch; if that fails, halves it and tries each half. Returns the single messages that
    /// failed, and whether the database counted any message after the first fault.
    async fn bisect(
        &self,
        micro_batch: MicroBatch,
        shutdown: &CancellationToken,
    ) -> Result<(Vec<FailedMessage>, bool), Interruption> {
        let (mut failed, mut faulty, mut writable) = (Vec::new(), false, false);
        let mut micro_batches = vec![micro_batch];
        while let Some(micro_batch) = micro_batches.pop() {
            if micro_batch.is_empty() {
                continue;
            }
            match self.apply(&micro_batch.batches, shutdown).await? {
                Ok(applied) => {
                    // Duplicates and refusals write nothing, so they do not show that the database accepts writes.
                    writable |= faulty && applied.contains(&Applied::Counted);
                    self.settle(micro_batch, applied).await;
                }
                Err(fault) => {
                    faulty = true;
                    match micro_batch.halves() {
                        Ok((first, second)) => micro_batches.extend([second, first]),
                        Err(message) => failed.push(FailedMessage { message, fault }),
                    }
                }
            }
        }
        Ok((failed, writable))
    }

    /// Applies the batches in one transaction, and holds them while the database is away. Returns a permanent fault.
    async fn apply(
        &self,
        batches: &[MetricBatch],
        shutdown: &CancellationToken,
    ) -> Result<Result<Vec<Applied>, StorageError>, Interruption> {
        let mut pause = Self::SHORTEST_PAUSE;
        loop {
            let started = Instant::now();
            let done = tokio::select! {
                biased;
                // If the abandoned transaction was committed, the ledger finds the redelivered batches in it.
                () = shutdown.cancelled() => return Err(Interruption::Shutdown),
                done = self.storage.apply(batches) => done,
            };
            let error = match done {
                Err(StorageError::Rebuilding) => return Err(Interruption::Rebuild),
                Err(error) if error.is_transient() => error,
                done => {
                    self.telemetry
                        .commit_seconds
                        .observe(started.elapsed().as_secs_f64());
                    if done.is_ok() {
                        self.hold(false);
                    }
                    return Ok(done);
                }
            };
            if !self.hold(true) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    batches = batches.len(),
                    "the database is away; holding the batches"
                );
            }
            self.pause(&mut pause, shutdown).await?;
        }
    }

    /// Waits before the next attempt, each time twice as long.
    async fn pause(&self, pause: &mut Duration, shutdown: &CancellationToken) -> Result<(), Interruption> {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(Interruption::Shutdown),
            () = tokio::time::sleep(*pause) => {}
        }
        self.telemetry.hold_retries.inc();
        *pause = (*pause * 2).min(Self::LONGEST_PAUSE);
        Ok(())
    }

    /// Records whether batches are held. Returns whether they were held before.
    fn hold(&self, holding: bool) -> bool {
        let before = self.state.holding.swap(holding, Ordering::Relaxed);
        self.telemetry.holding.set(holding.into());
        if before && !holding {
            tracing::info!("the database takes the batches again; going on");
        }
        before
    }

    /// After the commit: acknowledges what was counted and rejects what was refused.
    async fn settle(&self, micro_batch: MicroBatch, applied: Vec<Applied>) {
        #[cfg(feature = "failpoints")]
        fail::fail_point!("consumer::committed", |_| std::process::abort());
        self.committed.notify_one();
        self.telemetry
            .micro_batch_messages
            .observe(f64::from(u32::try_from(micro_batch.len()).unwrap_or(u32::MAX)));
        self.record_outcomes(&micro_batch.batches, &applied);
        // Concurrently: the broker's client combines acknowledgements that come together into one frame.
        join_all(
            micro_batch
                .outcomes(&applied)
                .map(|(delivery, outcomes)| self.settle_one(delivery, outcomes)),
        )
        .await;
    }

    async fn settle_one(&self, delivery: Delivery, outcomes: &[Applied]) {
        let refusal = outcomes.iter().find_map(|outcome| match outcome {
            Applied::Refused(refusal) => Some(refusal),
            Applied::Counted | Applied::Duplicate => None,
        });
        match refusal {
            None => self.record_settlement(delivery.ack().await),
            Some(refusal) => self.send_to_dead_letters(delivery, &refusal.to_string()).await,
        }
    }

    fn record_outcomes(&self, batches: &[MetricBatch], applied: &[Applied]) {
        let now = self.clock.now();
        for (batch, applied) in batches.iter().zip(applied) {
            match applied {
                Applied::Counted => {
                    self.telemetry.consumed.inc();
                    if let Some(lag) = lag_seconds(batch, now) {
                        self.telemetry.lag_seconds.observe(lag);
                    }
                }
                Applied::Duplicate => self.telemetry.deduplicated.inc(),
                Applied::Refused(refusal) => self.telemetry.rejected(refusal.into()).inc(),
            }
        }
    }

    /// Rejects the messages that the database refuses although it accepts others. Each message gets one more attempt,
    /// because the fault may have ended after the message was tried.
    async fn reject_failed(
        &self,
        failed: Vec<FailedMessage>,
        shutdown: &CancellationToken,
    ) -> Result<(), Interruption> {
        for FailedMessage { message, fault } in failed {
            match self.apply(&message.batches, shutdown).await? {
                Ok(applied) => self.settle(MicroBatch::of(vec![message]), applied).await,
                Err(again) => {
                    tracing::error!(
                        error = &again as &dyn std::error::Error,
                        first_error = &fault as &dyn std::error::Error,
                        "the database refuses a message; sending it to the dead letters"
                    );
                    let reason = ErrorChain(&again).to_string();
                    self.reject(message.delivery, RejectionKind::StorageFault, &reason)
                        .await;
                }
            }
        }
        self.hold(false);
        Ok(())
    }

    async fn reject(&self, delivery: Delivery, kind: RejectionKind, reason: &str) {
        self.telemetry.rejected(kind).inc();
        self.send_to_dead_letters(delivery, reason).await;
    }

    async fn send_to_dead_letters(&self, delivery: Delivery, reason: &str) {
        tracing::warn!(
            reason,
            bytes = delivery.body.len(),
            "a message goes to the dead letters"
        );
        self.record_settlement(delivery.reject(reason).await);
    }

    /// A delivery that could not be settled is delivered again; the ledger then finds its batches counted.
    fn record_settlement(&self, settled: Result<(), SettleError>) {
        if let Err(error) = settled {
            self.telemetry.unsettled.inc();
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a delivery could not be settled"
            );
        }
    }
}

/// Seconds since the batch's creation, for ids that hold the time of creation (UUIDv7).
fn lag_seconds(batch: &MetricBatch, now: chrono::DateTime<chrono::Utc>) -> Option<f64> {
    let id = batch.id().as_uuid();
    if id.get_version_num() != 7 {
        return None;
    }
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let created = chrono::DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)?;
    Some((now - created).as_seconds_f64().max(0.0))
}
