//! Which batches are stored: the decisions of [`Outbox::record`](storage::Outbox::record).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use shared_types::{BatchId, LlmName, MetricBatch};
use storage::{Hour, Recorded, Refusal};

use crate::{
    SqlError,
    write_transaction::{AdmissionRules, Publication, StoredIdentity, WriteTransaction},
};

/// [`Outbox::record`](storage::Outbox::record). `stored_now` are ids that this very call has stored already.
///
/// # Errors
/// The transaction's.
pub async fn record<T: WriteTransaction>(
    transaction: &mut T,
    batches: &[MetricBatch],
    stored_now: HashSet<BatchId>,
) -> Result<Vec<Recorded>, SqlError> {
    let admitted = admit(transaction, batches, Publication::Queued, stored_now).await?;
    Ok(admitted.outcomes)
}

pub(crate) struct Admitted {
    pub(crate) outcomes: Vec<Recorded>,
    /// Of every batch that was not refused.
    pub(crate) identities: HashMap<BatchId, StoredIdentity>,
}

/// Stores what can be stored. A batch that was stored once stays admitted, whatever has become of its metric's unit.
pub(crate) async fn admit<T: WriteTransaction>(
    transaction: &mut T,
    batches: &[MetricBatch],
    publication: Publication,
    mut stored_now: HashSet<BatchId>,
) -> Result<Admitted, SqlError> {
    let ids: BTreeSet<BatchId> = batches.iter().map(MetricBatch::id).collect();
    let ids: Vec<BatchId> = ids.into_iter().collect();
    let mut identities = transaction.stored(&ids).await?;
    let new: Vec<&MetricBatch> = batches
        .iter()
        .filter(|batch| !identities.contains_key(&batch.id()))
        .collect();
    let mut admission = None;
    if !new.is_empty() {
        let admission = admission.insert(transaction.admission_rules().await?);
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
                .ok_or_else(|| SqlError::fault(format!("batch {} was stored and is not there", batch.id()))),
        })
        .collect::<Result<_, SqlError>>()?;
    Ok(Admitted { outcomes, identities })
}

/// One batch for each new id, in the order of the ids.
fn first_admissible<'a>(batches: &[&'a MetricBatch], admission: &AdmissionRules) -> Vec<&'a MetricBatch> {
    let mut candidates = BTreeMap::new();
    for batch in batches {
        if refusal(batch, admission).is_none() {
            candidates.entry(batch.id()).or_insert(*batch);
        }
    }
    candidates.into_values().collect()
}

fn refusal(batch: &MetricBatch, admission: &AdmissionRules) -> Option<Refusal> {
    let AdmissionRules {
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

pub(crate) fn too_old(timestamp: DateTime<Utc>, retained_from: Hour) -> Option<Refusal> {
    (Hour::of(timestamp) < retained_from).then(|| Refusal::TooOld {
        found: timestamp,
        retained_from: retained_from.start(),
    })
}
