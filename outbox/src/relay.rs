use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use broker::{OutgoingMessage, Publisher};
use futures::{Stream, StreamExt, stream};
use shared_types::{BatchId, MetricBatch};
use storage::Storage;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{OutboxMetrics, OutboxSettings};

/// Publishes batches that are stored, and marks those that the broker has confirmed.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) settings: OutboxSettings,
    pub(crate) metrics: OutboxMetrics,
    /// Batches this process is publishing now, so that its own sweeper leaves them alone.
    in_flight: Mutex<HashSet<BatchId>>,
}

/// Confirmed ids that are marked with one statement at the most.
const MARKED_AT_ONCE: usize = 256;
/// Such statements under way at once, so that publishing goes on meanwhile.
const MARKS_AT_ONCE: usize = 2;

impl Relay {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        publisher: Arc<dyn Publisher>,
        settings: OutboxSettings,
        metrics: OutboxMetrics,
    ) -> Self {
        Self {
            storage,
            publisher,
            settings,
            metrics,
            in_flight: Mutex::default(),
        }
    }

    /// Relays what is submitted, until the life ends; then waits a little for what is under way. What is not
    /// confirmed by then keeps its outbox row.
    pub(crate) async fn run(
        self: Arc<Self>,
        submitted: mpsc::Receiver<MetricBatch>,
        shutdown: CancellationToken,
    ) {
        let arrivals = ReceiverStream::new(submitted).take_until(shutdown.clone().cancelled_owned());
        let relaying = self.publish_all(arrivals);
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

    /// Publishes every batch of the stream, as many at once as the window allows, and marks what was confirmed.
    pub(crate) async fn publish_all(&self, batches: impl Stream<Item = MetricBatch>) {
        batches
            .map(|batch| self.publish(batch))
            .buffer_unordered(self.settings.window)
            .filter_map(std::future::ready)
            .ready_chunks(MARKED_AT_ONCE)
            .for_each_concurrent(MARKS_AT_ONCE, |confirmed| self.mark_published(confirmed))
            .await;
    }

    /// Claims what nobody has published for a while and publishes it; gives how many batches that were.
    pub(crate) async fn sweep(&self) -> Result<usize, storage::StorageError> {
        let OutboxSettings {
            sweep_limit,
            grace,
            lease,
            ..
        } = self.settings;
        let claimed = self.storage.claim_unpublished(sweep_limit, grace, lease).await?;
        let count = claimed.len();
        let abandoned: Vec<_> = {
            let in_flight = self.in_flight();
            claimed
                .into_iter()
                .filter(|batch| !in_flight.contains(&batch.id()))
                .collect()
        };
        self.metrics.swept(abandoned.len());
        self.publish_all(stream::iter(abandoned)).await;
        Ok(count)
    }

    /// The id, if the broker has confirmed the batch. If not, its outbox row stays for a sweeper.
    async fn publish(&self, batch: MetricBatch) -> Option<BatchId> {
        let _in_flight = InFlight::enter(self, batch.id());
        let message = OutgoingMessage::of(&batch);
        drop(batch);
        match self.publisher.publish(&message).await {
            Ok(()) => {
                self.metrics.published();
                Some(message.id)
            }
            Err(error) => {
                self.metrics.publish_failed();
                tracing::debug!(batch.id = %message.id, error = &error as &dyn std::error::Error, "not published yet");
                None
            }
        }
    }

    async fn mark_published(&self, ids: Vec<BatchId>) {
        #[cfg(feature = "failpoints")]
        fail::fail_point!("outbox::confirmed", |_| std::process::abort());
        if let Err(error) = self.storage.mark_published(&ids).await {
            tracing::warn!(
                batches = ids.len(),
                error = &error as &dyn std::error::Error,
                "published, but not marked; they will be published again and counted once"
            );
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashSet<BatchId>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that a batch is being published, until it is dropped.
struct InFlight<'a> {
    relay: &'a Relay,
    id: BatchId,
}

impl<'a> InFlight<'a> {
    fn enter(relay: &'a Relay, id: BatchId) -> Self {
        relay.in_flight().insert(id);
        Self { relay, id }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.relay.in_flight().remove(&self.id);
    }
}
