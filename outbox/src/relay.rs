use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use broker::{MemoryBudget, Publisher, Reservation};
use futures::{Stream, StreamExt, future::join};
use shared_types::MetricBatch;
use storage::{Storage, StorageError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{
    OutboxSettings, OutboxTelemetry,
    batch_memory::{LARGEST_BATCH, LARGEST_MESSAGE, batch_bytes, message_bytes},
    in_flight::{InFlight, InFlightGuard},
    message::outgoing_message,
};

/// A stored batch on its way to the broker, with the memory that it may take.
#[derive(Debug)]
pub(crate) struct OutboxItem {
    pub(crate) batch: MetricBatch,
    pub(crate) guard: InFlightGuard,
    pub(crate) reservation: Reservation,
}

/// Publishes batches that are stored, and marks those that the broker has confirmed.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) settings: OutboxSettings,
    pub(crate) metrics: OutboxTelemetry,
    pub(crate) in_flight: InFlight,
    /// Apart from that of what is submitted, so that a backlog does not hold up producers.
    sweep_budget: MemoryBudget,
}

/// Confirmed ids that are marked with one statement at the most.
const MARKED_AT_ONCE: usize = 256;
/// Such statements under way at once, so that publishing goes on meanwhile.
const MARKS_AT_ONCE: usize = 2;
/// Half of it is for what is being claimed, half for the messages of what has been claimed: with less, one could wait
/// for the other for ever.
const LEAST_SWEEP_MEMORY: usize = 2 * (LARGEST_BATCH + LARGEST_MESSAGE);

impl Relay {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        publisher: Arc<dyn Publisher>,
        settings: OutboxSettings,
        metrics: OutboxTelemetry,
        in_flight: InFlight,
    ) -> Self {
        Self {
            storage,
            publisher,
            settings,
            metrics,
            in_flight,
            sweep_budget: MemoryBudget::of_bytes(settings.sweep_memory.max(LEAST_SWEEP_MEMORY)),
        }
    }

    /// Relays what is submitted, until the life ends; then waits a little for what is under way. What is not
    /// confirmed by then keeps its outbox row.
    pub(crate) async fn run(
        self: Arc<Self>,
        submitted: mpsc::Receiver<OutboxItem>,
        shutdown: CancellationToken,
    ) {
        let arrivals = ReceiverStream::new(submitted).take_until(shutdown.clone().cancelled_owned());
        let relaying = self.mark(self.publish_all(arrivals));
        let overdue = async {
            shutdown.cancelled().await;
            tokio::time::sleep(self.settings.drain).await;
        };
        tokio::select! {
            biased;
            () = relaying => {}
            () = overdue => tracing::info!("some batches are unconfirmed; they are published at the next start"),
        }
    }

    /// Claims what nobody has published for a while and publishes it, until nothing is left, or the broker does not
    /// take it; gives how many batches were claimed.
    pub(crate) async fn sweep(&self) -> Result<usize, StorageError> {
        // Few claimed batches wait for their turn, lest their leases lapse meanwhile.
        let (claimed, items) = mpsc::channel(self.settings.sweep_limit.max(1) as usize);
        let failed = AtomicBool::new(false);
        let published = self.publish_all(ReceiverStream::new(items)).inspect(|confirmed| {
            failed.fetch_or(confirmed.is_none(), Ordering::Relaxed);
        });
        let (outcome, ()) = join(self.claim_all(claimed, &failed), self.mark(published)).await;
        outcome
    }

    /// Claims until nothing is left or a publish has failed. Whatever the reason was (no link, a full queue), the next
    /// batch would meet it too, and the next sweep follows soon.
    async fn claim_all(
        &self,
        claimed: mpsc::Sender<OutboxItem>,
        failed: &AtomicBool,
    ) -> Result<usize, StorageError> {
        let mut count = 0;
        while self.publisher.link().is_ready() && !failed.load(Ordering::Relaxed) {
            let claim = self.claim().await?;
            if claim.is_empty() {
                break;
            }
            count += claim.len();
            for mut item in claim.into_iter().flatten() {
                let message = message_bytes(&item.batch);
                item.reservation.add(self.sweep_budget.take(message).await);
                self.metrics.swept();
                if claimed.send(item).await.is_err() {
                    return Ok(count);
                }
            }
        }
        Ok(count)
    }

    /// A few unpublished batches, without memory for their messages yet; `None` for those that this process is publishing
    /// already.
    async fn claim(&self) -> Result<Vec<Option<OutboxItem>>, StorageError> {
        let OutboxSettings {
            sweep_limit,
            sweep_memory,
            grace,
            lease,
            ..
        } = self.settings;
        // Nobody knows how large they are: there must be memory for the largest. Half of the budget, so that the next
        // ones are claimed while these are published.
        let claimable = sweep_memory.max(LEAST_SWEEP_MEMORY) / 2;
        let fitting = u32::try_from(claimable / LARGEST_BATCH).unwrap_or(u32::MAX);
        let limit = fitting.clamp(1, sweep_limit.max(1));
        let mut memory = self.sweep_budget.take(limit as usize * LARGEST_BATCH).await;
        let claimed = self.storage.claim_unpublished(limit, grace, lease).await?;
        let items = claimed.into_iter().map(|batch| {
            (!self.in_flight.contains(batch.id())).then(|| OutboxItem {
                guard: self.in_flight.enter(batch.id()),
                reservation: memory.split(batch_bytes(&batch)),
                batch,
            })
        });
        Ok(items.collect())
    }

    /// Publishes every batch of the stream, as many at once as the window allows. Gives those that the broker has
    /// confirmed; of the others the outbox row stays for a sweeper.
    fn publish_all(
        &self,
        batches: impl Stream<Item = OutboxItem>,
    ) -> impl Stream<Item = Option<InFlightGuard>> {
        batches
            .map(|item| self.publish(item))
            .buffer_unordered(self.settings.window)
    }

    async fn publish(&self, item: OutboxItem) -> Option<InFlightGuard> {
        let OutboxItem {
            batch,
            guard,
            reservation,
        } = item;
        let message = outgoing_message(&batch);
        drop(batch);
        let outcome = self.publisher.publish(&message).await;
        drop((message, reservation));
        match outcome {
            Ok(()) => {
                self.metrics.published();
                Some(guard)
            }
            Err(error) => {
                self.metrics.publish_failed();
                tracing::debug!(batch.id = %guard.id(), error = &error as &dyn std::error::Error, "not published yet");
                None
            }
        }
    }

    async fn mark(&self, published: impl Stream<Item = Option<InFlightGuard>>) {
        published
            .filter_map(std::future::ready)
            .ready_chunks(MARKED_AT_ONCE)
            .for_each_concurrent(MARKS_AT_ONCE, |confirmed| self.mark_published(confirmed))
            .await;
    }

    async fn mark_published(&self, confirmed: Vec<InFlightGuard>) {
        #[cfg(feature = "failpoints")]
        fail::fail_point!("outbox::confirmed", |_| std::process::abort());
        let ids: Vec<_> = confirmed.iter().map(InFlightGuard::id).collect();
        if let Err(error) = self.storage.mark_published(&ids).await {
            tracing::warn!(
                batches = ids.len(),
                error = &error as &dyn std::error::Error,
                "published, but not marked; they will be published again and counted once"
            );
        }
    }
}
