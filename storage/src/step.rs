//! The two steps that decide what is stored and what is counted, written once for all backends.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use shared_types::{BatchId, Checksum, LlmName, MetricBatch, MetricTitle, Unit};

use crate::{
    Applied, BoxError, Recorded, Refusal, StatisticsKey, StorageError,
    fold::{Partials, RowKey, RowState},
};

/// A metric of the registry, archived or not, as far as a batch must agree with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMetric {
    /// Its title.
    pub title: MetricTitle,
    /// The unit of its values.
    pub unit: Unit,
}

/// What decides about a batch that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredIdentity {
    /// Over the stored content.
    pub checksum: Checksum,
    /// What it counts for.
    pub key: StatisticsKey,
}

/// Whether a newly stored batch gets an outbox row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// It is to be published.
    Queued,
    /// It came from the broker.
    NotNeeded,
}

/// Why a step stopped, before it is known to which operation it belongs.
#[derive(Debug)]
pub enum StepError {
    /// See [`StorageError::Unavailable`].
    Unavailable(BoxError),
    /// See [`StorageError::Fault`].
    Fault(BoxError),
    /// The answer is an error of the port itself.
    Answer(StorageError),
}

impl StepError {
    /// A fault.
    pub fn fault(source: impl Into<BoxError>) -> Self {
        Self::Fault(source.into())
    }

    /// The error as the port's caller sees it.
    #[must_use]
    pub fn during(self, operation: &'static str) -> StorageError {
        match self {
            Self::Unavailable(source) => StorageError::Unavailable { operation, source },
            Self::Fault(source) => StorageError::Fault { operation, source },
            Self::Answer(error) => error,
        }
    }
}

/// One open transaction of a backend, in the words of the steps below.
#[async_trait]
pub trait StepTransaction: Send {
    /// The backend's error, before it is known to which operation it belongs.
    type Error: From<StepError>;

    /// Every metric, archived ones included.
    async fn known_metrics(&mut self) -> Result<Vec<KnownMetric>, Self::Error>;

    /// Registers those LLMs that are missing, in the order given, with creator `unknown`.
    async fn register_llms(&mut self, names: &[&LlmName]) -> Result<(), Self::Error>;

    /// Those of the ids that are stored.
    async fn stored(&mut self, ids: &[BatchId]) -> Result<HashMap<BatchId, StoredIdentity>, Self::Error>;

    /// Stores those of the batches whose id is new, in the order given; gives the ids that were stored.
    async fn insert(
        &mut self,
        batches: &[&MetricBatch],
        publication: Publication,
    ) -> Result<HashSet<BatchId>, Self::Error>;

    /// Enters the ids that are new to the ledger, in the order given, and gives them.
    async fn enter_ledger(&mut self, ids: &[BatchId]) -> Result<HashSet<BatchId>, Self::Error>;

    /// Makes sure that nobody else changes these rows before the transaction ends, in the order given, and gives the
    /// states of those that exist. An empty state may stand for a row that does not.
    async fn lock_statistics(&mut self, rows: &[RowKey]) -> Result<Vec<(RowKey, Vec<u8>)>, Self::Error>;

    /// Writes rows that were locked.
    async fn write_statistics(&mut self, rows: &[RowState]) -> Result<(), Self::Error>;
}

/// [`Outbox::record`](crate::Outbox::record). `stored_now` are ids that this very call has stored already.
///
/// # Errors
/// The transaction's.
pub async fn record<T: StepTransaction>(
    transaction: &mut T,
    batches: &[MetricBatch],
    stored_now: HashSet<BatchId>,
) -> Result<Vec<Recorded>, T::Error> {
    let admitted = admit(transaction, batches, Publication::Queued, stored_now).await?;
    Ok(admitted.outcomes)
}

/// [`Projection::apply`](crate::Projection::apply).
///
/// Locks are taken in one order by everybody: new LLMs, new batches, ledger, new statistics rows, existing statistics
/// rows, each sorted. So concurrent consumers wait for each other and never in a circle.
///
/// # Errors
/// The transaction's; a stored state that does not decode.
pub async fn apply<T: StepTransaction>(
    transaction: &mut T,
    batches: &[MetricBatch],
) -> Result<Vec<Applied>, T::Error> {
    let Admitted { outcomes, identities } =
        admit(transaction, batches, Publication::NotNeeded, HashSet::new()).await?;
    let countable: BTreeSet<BatchId> = batches
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| !matches!(outcome, Recorded::Refused(_)))
        .map(|(batch, _)| batch.id())
        .collect();
    if countable.is_empty() {
        return Ok(outcomes
            .into_iter()
            .map(|outcome| counted(outcome, false))
            .collect());
    }
    let countable: Vec<BatchId> = countable.into_iter().collect();
    let mut new = transaction.enter_ledger(&countable).await?;

    let mut partials = Partials::default();
    let mut applied = Vec::with_capacity(batches.len());
    for (batch, outcome) in batches.iter().zip(outcomes) {
        let is_new = !matches!(outcome, Recorded::Refused(_)) && new.remove(&batch.id());
        if is_new {
            let key = identities[&batch.id()].key;
            partials.add(key, batch.timestamp(), batch.values())?;
        }
        applied.push(counted(outcome, is_new));
    }
    add_to_statistics(transaction, partials).await?;
    Ok(applied)
}

async fn add_to_statistics<T: StepTransaction>(
    transaction: &mut T,
    partials: Partials,
) -> Result<(), T::Error> {
    if partials.is_empty() {
        return Ok(());
    }
    let mut rows = partials.into_rows()?;
    let keys: Vec<RowKey> = rows.keys().copied().collect();
    for (key, state) in transaction.lock_statistics(&keys).await? {
        if let Some(row) = rows.get_mut(&key) {
            let before = statistics::RunningStatistics::from_bytes(&state).map_err(StepError::fault)?;
            row.merge(&before).map_err(StepError::fault)?;
        }
    }
    let rows: Vec<RowState> = rows
        .iter()
        .map(|(key, statistics)| RowState::new(*key, statistics))
        .collect();
    transaction.write_statistics(&rows).await
}

fn counted(outcome: Recorded, is_new: bool) -> Applied {
    match outcome {
        Recorded::Refused(refusal) => Applied::Refused(refusal),
        Recorded::Stored | Recorded::AlreadyStored if is_new => Applied::Counted,
        Recorded::Stored | Recorded::AlreadyStored => Applied::Duplicate,
    }
}

struct Admitted {
    outcomes: Vec<Recorded>,
    /// Of every batch that was not refused.
    identities: HashMap<BatchId, StoredIdentity>,
}

/// Stores what can be stored. A batch that was stored once stays admitted, whatever has become of its metric's unit.
async fn admit<T: StepTransaction>(
    transaction: &mut T,
    batches: &[MetricBatch],
    publication: Publication,
    mut stored_now: HashSet<BatchId>,
) -> Result<Admitted, T::Error> {
    let ids: BTreeSet<BatchId> = batches.iter().map(MetricBatch::id).collect();
    let ids: Vec<BatchId> = ids.into_iter().collect();
    let mut identities = transaction.stored(&ids).await?;
    let new: Vec<&MetricBatch> = batches
        .iter()
        .filter(|batch| !identities.contains_key(&batch.id()))
        .collect();
    let mut metrics = Vec::new();
    if !new.is_empty() {
        metrics = transaction.known_metrics().await?;
        let candidates = first_admissible(&new, &metrics);
        if !candidates.is_empty() {
            let llms: BTreeSet<&LlmName> = candidates.iter().map(|batch| batch.llm()).collect();
            transaction
                .register_llms(&llms.into_iter().collect::<Vec<_>>())
                .await?;
            stored_now.extend(transaction.insert(&candidates, publication).await?);
            // Also those that somebody else has stored in the meantime.
            let ids: Vec<BatchId> = candidates.iter().map(|batch| batch.id()).collect();
            identities.extend(transaction.stored(&ids).await?);
        }
    }
    let outcomes = batches
        .iter()
        .map(|batch| match identities.get(&batch.id()) {
            Some(identity) if identity.checksum != batch.checksum() => {
                Ok(Recorded::Refused(Refusal::OtherContent { id: batch.id() }))
            }
            Some(_) if stored_now.remove(&batch.id()) => Ok(Recorded::Stored),
            Some(_) => Ok(Recorded::AlreadyStored),
            None => refusal(batch, &metrics)
                .map(Recorded::Refused)
                .ok_or_else(|| StepError::fault(format!("batch {} was stored and is not there", batch.id()))),
        })
        .collect::<Result<_, StepError>>()?;
    Ok(Admitted { outcomes, identities })
}

/// One batch for each new id, in the order of the ids.
fn first_admissible<'a>(batches: &[&'a MetricBatch], metrics: &[KnownMetric]) -> Vec<&'a MetricBatch> {
    let mut candidates = BTreeMap::new();
    for batch in batches {
        if refusal(batch, metrics).is_none() {
            candidates.entry(batch.id()).or_insert(*batch);
        }
    }
    candidates.into_values().collect()
}

fn refusal(batch: &MetricBatch, metrics: &[KnownMetric]) -> Option<Refusal> {
    let Some(metric) = metrics.iter().find(|metric| metric.title == *batch.metric()) else {
        return Some(Refusal::UnknownMetric {
            found: batch.metric().clone(),
            known: metrics.iter().map(|metric| metric.title.clone()).collect(),
        });
    };
    match &batch.content().unit {
        Some(unit) if *unit != metric.unit => Some(Refusal::OtherUnit {
            metric: metric.title.clone(),
            found: unit.clone(),
            expected: metric.unit.clone(),
        }),
        _ => None,
    }
}
