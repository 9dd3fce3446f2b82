//! The two steps that decide what is stored and what is counted, written once for all backends.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::{BatchId, Checksum, LlmName, MetricBatch, MetricTitle, Unit};

use crate::{
    Applied, BoxError, Hour, Recorded, Refusal, StatisticsKey, StorageError,
    fold::{Partials, RowKey, RowState, merged},
};

/// A metric of the registry, archived or not, as far as a batch must agree with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMetric {
    /// Its title.
    pub title: MetricTitle,
    /// The unit of its values.
    pub unit: Unit,
}

/// What decides about batches that are not stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Every metric, archived ones included, in the order of their ids.
    pub metrics: Vec<KnownMetric>,
    /// The first hour whose batches are kept.
    pub retained_from: Hour,
}

/// A batch on its way into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Countable {
    /// Its id.
    pub id: BatchId,
    /// Its timestamp.
    pub timestamp: DateTime<Utc>,
}

/// What [`StepTransaction::enter_ledger`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
    /// The ids that entered.
    pub new: HashSet<BatchId>,
    /// The first hour whose batches are kept.
    pub retained_from: Hour,
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

    /// What decides about new batches. Called after [`stored`](Self::stored).
    async fn admission(&mut self) -> Result<Admission, Self::Error>;

    /// Registers those LLMs that are missing, in the order given, with creator `unknown`.
    async fn register_llms(&mut self, names: &[&LlmName]) -> Result<(), Self::Error>;

    /// Those of the ids that are stored. The first step of all: what is kept does not change any more before the
    /// transaction ends.
    async fn stored(&mut self, ids: &[BatchId]) -> Result<HashMap<BatchId, StoredIdentity>, Self::Error>;

    /// Stores those of the batches whose id is new, in the order given; gives the ids that were stored.
    async fn insert(
        &mut self,
        batches: &[&MetricBatch],
        publication: Publication,
    ) -> Result<HashSet<BatchId>, Self::Error>;

    /// Enters the batches that are new to the ledger and of hours that are kept, in the order given.
    async fn enter_ledger(&mut self, batches: &[Countable]) -> Result<Entered, Self::Error>;

    /// Those of the ids that are in the ledger.
    async fn counted(&mut self, ids: &[BatchId]) -> Result<HashSet<BatchId>, Self::Error>;

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
    let countable: BTreeMap<BatchId, DateTime<Utc>> = batches
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| !matches!(outcome, Recorded::Refused(_)))
        .map(|(batch, _)| (batch.id(), batch.timestamp()))
        .collect();
    let mut ledger = Ledger::default();
    if !countable.is_empty() {
        ledger = enter(transaction, countable).await?;
    }

    let mut partials = Partials::default();
    let mut applied = Vec::with_capacity(batches.len());
    for (batch, outcome) in batches.iter().zip(outcomes) {
        let outcome = match outcome {
            Recorded::Refused(refusal) => Applied::Refused(refusal),
            Recorded::Stored | Recorded::AlreadyStored => ledger.outcome(batch),
        };
        if outcome == Applied::Counted {
            let key = identities[&batch.id()].key;
            partials.add(key, batch.timestamp(), batch.values())?;
        }
        applied.push(outcome);
    }
    add_to_statistics(transaction, partials).await?;
    Ok(applied)
}

/// What the ledger says about the batches of a call.
#[derive(Default)]
struct Ledger {
    new: HashSet<BatchId>,
    /// Not in the ledger and never to enter it.
    too_old: HashMap<BatchId, Refusal>,
}

impl Ledger {
    /// A batch that is asked for twice is new once.
    fn outcome(&mut self, batch: &MetricBatch) -> Applied {
        if self.new.remove(&batch.id()) {
            Applied::Counted
        } else if let Some(refusal) = self.too_old.get(&batch.id()) {
            Applied::Refused(refusal.clone())
        } else {
            Applied::Duplicate
        }
    }
}

/// A batch that is too old and stored is not counted either, unless it is in the ledger: it may have been counted,
/// pruned, and recorded again by a producer that did not know yet.
async fn enter<T: StepTransaction>(
    transaction: &mut T,
    batches: BTreeMap<BatchId, DateTime<Utc>>,
) -> Result<Ledger, T::Error> {
    let batches: Vec<Countable> = batches
        .into_iter()
        .map(|(id, timestamp)| Countable { id, timestamp })
        .collect();
    let Entered { new, retained_from } = transaction.enter_ledger(&batches).await?;
    let mut too_old: HashMap<BatchId, Refusal> = batches
        .iter()
        .filter_map(|batch| Some((batch.id, too_old(batch.timestamp, retained_from)?)))
        .collect();
    if !too_old.is_empty() {
        let ids: Vec<BatchId> = too_old.keys().copied().collect();
        for id in transaction.counted(&ids).await? {
            too_old.remove(&id);
        }
    }
    Ok(Ledger { new, too_old })
}

async fn add_to_statistics<T: StepTransaction>(
    transaction: &mut T,
    partials: Partials,
) -> Result<(), T::Error> {
    if partials.is_empty() {
        return Ok(());
    }
    let rows = partials.into_rows()?;
    let keys: Vec<RowKey> = rows.keys().copied().collect();
    let before = transaction.lock_statistics(&keys).await?;
    let rows = merged(rows, &before)?;
    transaction.write_statistics(&rows).await
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
    let mut admission = None;
    if !new.is_empty() {
        let admission = admission.insert(transaction.admission().await?);
        let candidates = first_admissible(&new, admission);
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
            None => admission
                .as_ref()
                .and_then(|admission| refusal(batch, admission))
                .map(Recorded::Refused)
                .ok_or_else(|| StepError::fault(format!("batch {} was stored and is not there", batch.id()))),
        })
        .collect::<Result<_, StepError>>()?;
    Ok(Admitted { outcomes, identities })
}

/// One batch for each new id, in the order of the ids.
fn first_admissible<'a>(batches: &[&'a MetricBatch], admission: &Admission) -> Vec<&'a MetricBatch> {
    let mut candidates = BTreeMap::new();
    for batch in batches {
        if refusal(batch, admission).is_none() {
            candidates.entry(batch.id()).or_insert(*batch);
        }
    }
    candidates.into_values().collect()
}

fn refusal(batch: &MetricBatch, admission: &Admission) -> Option<Refusal> {
    let Admission {
        metrics,
        retained_from,
    } = admission;
    if let Some(refusal) = too_old(batch.timestamp(), *retained_from) {
        return Some(refusal);
    }
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

fn too_old(timestamp: DateTime<Utc>, retained_from: Hour) -> Option<Refusal> {
    (Hour::of(timestamp) < retained_from).then(|| Refusal::TooOld {
        found: timestamp,
        retained_from: retained_from.start(),
    })
}
