//! The one way in: every batch, whoever made it, is stored together with the intent to publish it, then published.
//!
//! ```text
//! submit ── record (batch + outbox row, one transaction) ──► relay ── publish, confirmed ──► mark published
//!                                                              ▲
//!                                     sweeper: what is still unpublished after a while
//! ```
//!
//! After [`Outbox::submit`] returns, a batch cannot be lost any more: if the process dies, or the broker is away,
//! its outbox row remains and some sweeper (this one, another process's, or the next start's) publishes it.
//! A batch may be published more than once; the consumer's ledger counts it once.
//!
//! Memory is bounded by bytes, not by batches, whose sizes differ by a factor of 100 000: what is on its way reserves
//! memory of a budget (one for what is submitted, one for what is swept) until the broker has answered, and whoever finds
//! the budget used up waits.

mod batch_memory;
mod in_flight;
mod message;
mod relay;
mod sweeper;
mod telemetry;

pub use message::outgoing_message;
pub use telemetry::OutboxTelemetry;

use std::{sync::Arc, time::Duration};

use broker::{MemoryBudget, Publisher};
use service_runtime::lifecycle::Lifecycle;
use shared_types::MetricBatch;
use storage::{Recorded, StorageError};
use tokio::sync::mpsc;

use crate::{
    batch_memory::{batch_bytes, message_bytes},
    in_flight::{InFlight, InFlightGuard},
    relay::{OutboxItem, Relay},
};

const MEBIBYTE: usize = 1024 * 1024;

/// How eager the outbox is, and how much memory it takes. The defaults suit every service; tests shrink them.
#[derive(Debug, Clone, Copy)]
pub struct OutboxSettings {
    /// Batches that may wait in memory to be published. A full queue makes [`Outbox::submit`] wait: backpressure
    /// from a slow broker reaches the producer.
    pub queue: usize,
    /// Publishes under way at once.
    pub window: usize,
    /// Bytes that submitted batches and their messages may take from when they are stored until the broker has
    /// answered, estimated from above. While they are used up, [`Outbox::submit`] waits. A batch that is larger than
    /// all of it waits until it is alone.
    pub memory: usize,
    /// The same for what the sweeper has claimed; at least twice what the largest batch and its message take.
    pub sweep_memory: usize,
    /// How long a batch may stay unpublished before the sweeper takes it.
    pub grace: Duration,
    /// How long the sweeper's claim on a batch keeps other sweepers away.
    pub lease: Duration,
    /// The pause between two sweeps.
    pub sweep_interval: Duration,
    /// Batches that the sweeper claims at a time, where there is memory for the largest that can exist; else fewer.
    pub sweep_limit: u32,
    /// How long the end waits for confirmations that are under way.
    pub drain: Duration,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            queue: 512,
            window: 256,
            memory: 32 * MEBIBYTE,
            sweep_memory: 32 * MEBIBYTE,
            grace: Duration::from_secs(2),
            lease: Duration::from_secs(15),
            sweep_interval: Duration::from_secs(1),
            sweep_limit: 128,
            drain: Duration::from_secs(3),
        }
    }
}

/// See the [crate's documentation](crate).
#[derive(Debug, Clone)]
pub struct Outbox {
    storage: Arc<dyn storage::Storage>,
    to_relay: mpsc::Sender<OutboxItem>,
    in_flight: InFlight,
    budget: MemoryBudget,
    metrics: OutboxTelemetry,
}

impl Outbox {
    /// Starts the relay and the sweeper, which run until the life ends.
    #[must_use]
    pub fn start(
        life: &Lifecycle,
        storage: Arc<dyn storage::Storage>,
        publisher: Arc<dyn Publisher>,
        settings: OutboxSettings,
        metrics: OutboxTelemetry,
    ) -> Self {
        let (to_relay, submitted) = mpsc::channel(settings.queue);
        let (in_flight, budget) = (InFlight::default(), MemoryBudget::of_bytes(settings.memory));
        metrics.watch(in_flight.clone(), budget.clone(), Arc::clone(&publisher));
        let relay = Arc::new(Relay::new(
            Arc::clone(&storage),
            publisher,
            settings,
            metrics.clone(),
            in_flight.clone(),
        ));
        life.spawn("outbox relay", Arc::clone(&relay).run(submitted, life.shutdown()));
        life.spawn(
            "outbox depth",
            sweeper::measure(Arc::clone(&relay), life.shutdown()),
        );
        life.spawn("outbox sweeper", sweeper::run(relay, life.shutdown()));
        Self {
            storage,
            to_relay,
            in_flight,
            budget,
            metrics,
        }
    }

    /// Starts an outbox with the settings that suit every service and the metrics registered.
    ///
    /// # Errors
    /// The registry has an outbox's metrics already.
    pub fn standard(
        life: &Lifecycle,
        storage: Arc<dyn storage::Storage>,
        publisher: Arc<dyn Publisher>,
        registry: &prometheus::Registry,
    ) -> prometheus::Result<Self> {
        let metrics = OutboxTelemetry::register(registry)?;
        Ok(Self::start(
            life,
            storage,
            publisher,
            OutboxSettings::default(),
            metrics,
        ))
    }

    /// Stores the batches, each together with its outbox row, and hands the new ones to the relay; gives one outcome per
    /// batch, in order. Waits while the relay's queue is full or its memory used up; a call that is given up then has
    /// stored its batches, and the sweeper publishes them.
    ///
    /// # Errors
    /// The database refused or is away. After [`StorageError::Unavailable`] the batches may or may not be stored;
    /// submit the same batches, with the same ids, again.
    pub async fn submit(&self, batches: Vec<MetricBatch>) -> Result<Vec<Recorded>, StorageError> {
        let (outcomes, stored) = self.record(batches).await?;
        for (guard, batch) in stored {
            let reservation = self.budget.take(bytes_of(&batch)).await;
            let item = OutboxItem {
                batch,
                guard,
                reservation,
            };
            // A closed relay means that the process is ending: the outbox row stays, and the next start publishes it.
            if self.to_relay.send(item).await.is_err() {
                tracing::debug!("the relay has ended; the sweeper of the next start publishes");
            }
        }
        Ok(outcomes)
    }

    /// Stores batches without waiting for the broker: what finds no room is left to the sweeper. For callers who are
    /// answered as soon as their batches are stored.
    ///
    /// # Errors
    /// The errors of [`Self::submit`].
    pub async fn submit_without_waiting(
        &self,
        batches: Vec<MetricBatch>,
    ) -> Result<Vec<Recorded>, StorageError> {
        let (outcomes, stored) = self.record(batches).await?;
        for (guard, batch) in stored {
            let Some(reservation) = self.budget.try_take(bytes_of(&batch)) else {
                continue;
            };
            let item = OutboxItem {
                batch,
                guard,
                reservation,
            };
            if self.to_relay.try_send(item).is_err() {
                tracing::debug!("no room before the relay; the sweeper publishes");
            }
        }
        Ok(outcomes)
    }

    /// Stores the batches, and gives those that are new, each kept from the sweeper.
    async fn record(
        &self,
        batches: Vec<MetricBatch>,
    ) -> Result<(Vec<Recorded>, Vec<(InFlightGuard, MetricBatch)>), StorageError> {
        let outcomes = self.storage.record(&batches).await?;
        #[cfg(feature = "failpoints")]
        fail::fail_point!("outbox::recorded", |_| std::process::abort());
        outcomes.iter().for_each(|outcome| self.metrics.recorded(outcome));
        // All of them before the first wait: what waits here is not for the sweeper.
        let stored = batches
            .into_iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == Recorded::Stored)
            .map(|(batch, _)| (self.in_flight.enter(batch.id()), batch))
            .collect();
        Ok((outcomes, stored))
    }
}

/// What a batch takes from the budget, its message included.
fn bytes_of(batch: &MetricBatch) -> usize {
    batch_bytes(batch) + message_bytes(batch)
}
