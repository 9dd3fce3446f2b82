use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use outbox::Outbox;
use shared_types::{
    BatchContent, BatchId, Clock, Invalid, Llm, Metadata, Metric, MetricBatch, Provenance, RunId, Source,
};
use storage::{Recorded, Storage, StorageError};

use crate::{SimulationSettings, generator::Generator};

/// Batches that are stored in one transaction.
const BATCHES_AT_ONCE: usize = 64;
/// Such transactions under way at once.
const TRANSACTIONS_AT_ONCE: usize = 4;

/// Generates ticks.
#[derive(Debug, Clone)]
pub struct Simulation {
    storage: Arc<dyn Storage>,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    generator: Generator,
    run_id: RunId,
    data_points: usize,
}

/// What a tick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickReport {
    /// Its number.
    pub tick: u64,
    /// The batches that were stored.
    pub batches: usize,
    /// The values in them.
    pub values: usize,
}

/// Why a tick was given up.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// The database refused or stayed away.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The registry holds something that values cannot be drawn for.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The generator's thread died.
    #[error("drawing values failed")]
    Generator(#[from] tokio::task::JoinError),
}

impl Simulation {
    /// A simulation with this seed.
    ///
    /// # Errors
    /// Never in practice: the run's name is made of the seed.
    pub fn new(
        storage: Arc<dyn Storage>,
        outbox: Outbox,
        clock: Arc<dyn Clock>,
        seed: u64,
        settings: &SimulationSettings,
    ) -> Result<Self, Invalid> {
        Ok(Self {
            storage,
            outbox,
            clock,
            generator: Generator {
                seed,
                shape: settings.shape,
            },
            run_id: RunId::new(&format!("simulation-{seed}"))?,
            data_points: settings.data_points,
        })
    }

    /// Takes the next tick number and submits one batch for every (LLM, metric) of the registry.
    ///
    /// # Errors
    /// The database refused or stayed away; the batches stored by then stay, the tick's number is not used again.
    pub async fn tick(&self) -> Result<TickReport, TickError> {
        let (llms, metrics) = (self.storage.llms().await?, self.storage.metrics().await?);
        let tick = self.storage.take_tick(self.generator.seed).await?;
        let pairs: Vec<(Llm, Metric)> = llms
            .iter()
            .flat_map(|llm| metrics.iter().map(|metric| (llm.clone(), metric.clone())))
            .collect();
        let stored: Vec<usize> = stream::iter(
            pairs
                .chunks(BATCHES_AT_ONCE)
                .map(<[_]>::to_vec)
                .collect::<Vec<_>>(),
        )
        .map(|pairs| self.submit(tick, pairs))
        .buffer_unordered(TRANSACTIONS_AT_ONCE)
        .try_collect()
        .await?;
        let batches = stored.into_iter().sum();
        Ok(TickReport {
            tick,
            batches,
            values: batches * self.data_points,
        })
    }

    async fn submit(&self, tick: u64, pairs: Vec<(Llm, Metric)>) -> Result<usize, TickError> {
        let simulation = self.clone();
        let batches = tokio::task::spawn_blocking(move || simulation.draw(tick, &pairs)).await??;
        let outcomes = self.outbox.submit(batches).await?;
        for refused in outcomes.iter().filter_map(|outcome| match outcome {
            Recorded::Refused(refusal) => Some(refusal),
            Recorded::Stored | Recorded::AlreadyStored => None,
        }) {
            tracing::warn!(tick, reason = %refused, "a batch was refused: the registry changed during the tick");
        }
        Ok(outcomes
            .iter()
            .filter(|outcome| !matches!(outcome, Recorded::Refused(_)))
            .count())
    }

    fn draw(&self, tick: u64, pairs: &[(Llm, Metric)]) -> Result<Vec<MetricBatch>, Invalid> {
        let now = self.clock.now();
        pairs
            .iter()
            .map(|(llm, metric)| {
                let id = BatchId::new(now, self.generator.id_bytes(tick, &llm.name, &metric.title));
                let content = BatchContent {
                    llm: llm.name.clone(),
                    metric: metric.title.clone(),
                    unit: Some(metric.unit.clone()),
                    values: self.generator.values(tick, &llm.name, metric, self.data_points)?,
                    timestamp: now,
                    provenance: Provenance {
                        source: Source::Simulated,
                        run_id: Some(self.run_id.clone()),
                        seed: Some(self.generator.seed),
                        sequence: Some(tick),
                        metadata: Metadata::default(),
                    },
                };
                Ok(MetricBatch::new(id, content))
            })
            .collect()
    }
}
