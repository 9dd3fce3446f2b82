//! Which batches are counted: the decisions of [`Projection::apply`](storage::Projection::apply).

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use shared_types::{BatchId, MetricBatch};
use storage::{Applied, Recorded, Refusal};

use crate::{
    SqlError,
    admission::{Admitted, admit, too_old},
    statistics_rows::{PartialStatistics, RowKey, merged},
    write_transaction::{EnteredIntoLedger, LedgerCandidate, Publication, WriteTransaction},
};

/// [`Projection::apply`](storage::Projection::apply).
///
/// Locks are taken in one order by everybody: new LLMs, new batches, ledger, new statistics rows, existing statistics
/// rows, each sorted. So concurrent consumers wait for each other and never in a circle.
///
/// # Errors
/// The transaction's; a stored state that does not decode.
pub async fn apply<T: WriteTransaction>(
    transaction: &mut T,
    batches: &[MetricBatch],
) -> Result<Vec<Applied>, SqlError> {
    let Admitted { outcomes, identities } =
        admit(transaction, batches, Publication::NotNeeded, HashSet::new()).await?;
    let countable: BTreeMap<BatchId, DateTime<Utc>> = batches
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| !matches!(outcome, Recorded::Refused(_)))
        .map(|(batch, _)| (batch.id(), batch.timestamp()))
        .collect();
    let mut ledger = LedgerAnswer::default();
    if !countable.is_empty() {
        ledger = enter(transaction, countable).await?;
    }

    let mut partials = PartialStatistics::default();
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
struct LedgerAnswer {
    new: HashSet<BatchId>,
    /// Not in the ledger and never to enter it.
    too_old: HashMap<BatchId, Refusal>,
}

impl LedgerAnswer {
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
async fn enter<T: WriteTransaction>(
    transaction: &mut T,
    batches: BTreeMap<BatchId, DateTime<Utc>>,
) -> Result<LedgerAnswer, SqlError> {
    let batches: Vec<LedgerCandidate> = batches
        .into_iter()
        .map(|(id, timestamp)| LedgerCandidate { id, timestamp })
        .collect();
    let EnteredIntoLedger { new, retained_from } = transaction.enter_ledger(&batches).await?;
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
    Ok(LedgerAnswer { new, too_old })
}

async fn add_to_statistics<T: WriteTransaction>(
    transaction: &mut T,
    partials: PartialStatistics,
) -> Result<(), SqlError> {
    if partials.is_empty() {
        return Ok(());
    }
    let rows = partials.into_rows()?;
    let keys: Vec<RowKey> = rows.keys().copied().collect();
    let before = transaction.lock_statistics(&keys).await?;
    let rows = merged(rows, &before)?;
    transaction.write_statistics(&rows).await
}
