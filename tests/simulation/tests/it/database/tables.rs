use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use shared_types::{BatchId, LlmId, LlmName, MetricBatch, MetricId, RegistrySeed};
use storage::{Hour, Period, StatisticsKey};
use storage_sql::{
    SqlError,
    columns::FIRST_HOUR,
    statistics_rows::{RowKey, RowState},
    write_transaction::{
        AdmissionRules, EnteredIntoLedger, KnownMetric, LedgerCandidate, Publication, StoredIdentity,
        WriteTransaction,
    },
};

use crate::sabotage::Sabotage;

/// Nothing is pruned in the simulation.
const EVERYTHING_KEPT: Hour = FIRST_HOUR;

#[derive(Debug, Clone)]
pub(crate) struct BatchRow {
    pub(crate) batch: Arc<MetricBatch>,
    pub(crate) key: StatisticsKey,
    pub(crate) recorded_at: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct OutboxRow {
    pub(crate) recorded_at: Duration,
    pub(crate) claimed_at: Option<Duration>,
}

/// How often the reconciler has requeued a batch, and when it did last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequeueRow {
    pub(crate) times: u32,
    pub(crate) at: Duration,
}

/// What survives every crash. Times are virtual, since the start.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// A row's id is its place, from 1.
    pub(crate) llms: Vec<LlmName>,
    pub(crate) metrics: Vec<KnownMetric>,
    pub(crate) batches: BTreeMap<BatchId, BatchRow>,
    pub(crate) outbox: BTreeMap<BatchId, OutboxRow>,
    pub(crate) ledger: BTreeSet<BatchId>,
    pub(crate) statistics: BTreeMap<RowKey, Vec<u8>>,
    pub(crate) requeues: BTreeMap<BatchId, RequeueRow>,
    /// Values that the ledger's batches bring to each row: what a row's `n` must be. Not the code under test.
    due: BTreeMap<RowKey, i64>,
}

/// What a transaction has written and nobody else sees before its commit. Dropping it is the rollback.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    llms: Vec<LlmName>,
    batches: BTreeMap<BatchId, BatchRow>,
    outbox: BTreeSet<BatchId>,
    ledger: BTreeSet<BatchId>,
    statistics: Vec<RowState>,
}

impl Tables {
    pub(crate) fn seeded(seed: &RegistrySeed) -> Self {
        Self {
            llms: seed.llms.iter().map(|llm| llm.name.clone()).collect(),
            metrics: seed
                .metrics
                .iter()
                .map(|metric| KnownMetric {
                    title: metric.title.clone(),
                    unit: metric.unit.clone(),
                })
                .collect(),
            ..Self::default()
        }
    }

    /// Makes it so, all at once. Gives what is wrong with it (invariant I6: no row ever holds a value twice, nor lacks
    /// one that the ledger says is counted).
    pub(crate) fn commit(&mut self, staged: Staged, now: Duration) -> Vec<String> {
        self.llms.extend(staged.llms);
        self.batches.extend(staged.batches);
        self.outbox.extend(staged.outbox.into_iter().map(|id| {
            let row = OutboxRow {
                recorded_at: now,
                claimed_at: None,
            };
            (id, row)
        }));
        let mut wrong = Vec::new();
        let mut touched = BTreeSet::new();
        for id in staged.ledger {
            if !self.ledger.insert(id) {
                continue;
            }
            let Some(row) = self.batches.get(&id) else {
                wrong.push(format!("{id} is in the ledger and not stored"));
                continue;
            };
            for row_key in rows_of(row) {
                *self.due.entry(row_key).or_default() +=
                    i64::try_from(row.batch.values().len()).expect("few values");
                touched.insert(row_key);
            }
        }
        for RowState { row, state, n } in staged.statistics {
            let due = self.due.get(&row).copied().unwrap_or(0);
            if n != due {
                wrong.push(format!(
                    "{row:?} holds {n} values, and the ledger says {due} are counted"
                ));
            }
            touched.remove(&row);
            self.statistics.insert(row, state);
        }
        wrong.extend(
            touched
                .into_iter()
                .map(|row| format!("{row:?} lacks what the ledger says is counted")),
        );
        wrong
    }
}

/// The two rows that a batch counts in.
pub(crate) fn rows_of(row: &BatchRow) -> [RowKey; 2] {
    let hour = Hour(row.batch.timestamp().timestamp().div_euclid(3600));
    [Period::AllTime, Period::Hour(hour)].map(|period| RowKey { key: row.key, period })
}

/// An open transaction. It never waits: transactions follow one another, as with SQLite or under PostgreSQL's locks.
#[derive(Debug)]
pub(crate) struct Transaction<'t> {
    pub(crate) tables: &'t Tables,
    pub(crate) now: Duration,
    pub(crate) sabotage: Sabotage,
    pub(crate) staged: Staged,
}

impl Transaction<'_> {
    fn row(&self, id: &BatchId) -> Option<&BatchRow> {
        self.staged
            .batches
            .get(id)
            .or_else(|| self.tables.batches.get(id))
    }

    fn llm_id(&self, name: &LlmName) -> Option<LlmId> {
        let mut known = self.tables.llms.iter().chain(&self.staged.llms);
        known.position(|llm| llm == name).map(|at| LlmId(at as i64 + 1))
    }

    fn key(&self, batch: &MetricBatch) -> Option<StatisticsKey> {
        let metric = self
            .tables
            .metrics
            .iter()
            .position(|metric| metric.title == *batch.metric())?;
        Some(StatisticsKey {
            llm: self.llm_id(batch.llm())?,
            metric: MetricId(metric as i64 + 1),
            source: batch.provenance().source,
        })
    }
}

#[async_trait]
impl WriteTransaction for Transaction<'_> {
    async fn admission_rules(&mut self) -> Result<AdmissionRules, SqlError> {
        Ok(AdmissionRules {
            metrics: self.tables.metrics.clone(),
            retained_from: EVERYTHING_KEPT,
        })
    }

    async fn register_llms(&mut self, names: &[&LlmName]) -> Result<(), SqlError> {
        for name in names {
            if self.llm_id(name).is_none() {
                self.staged.llms.push((*name).clone());
            }
        }
        Ok(())
    }

    async fn stored(&mut self, ids: &[BatchId]) -> Result<HashMap<BatchId, StoredIdentity>, SqlError> {
        let rows = ids.iter().filter_map(|id| Some((*id, self.row(id)?)));
        let identities = rows.map(|(id, row)| {
            let identity = StoredIdentity {
                checksum: row.batch.checksum(),
                key: row.key,
            };
            (id, identity)
        });
        Ok(identities.collect())
    }

    async fn insert(
        &mut self,
        batches: &[&MetricBatch],
        publication: Publication,
    ) -> Result<HashSet<BatchId>, SqlError> {
        let mut inserted = HashSet::new();
        for batch in batches {
            let id = batch.id();
            if self.row(&id).is_some() {
                continue;
            }
            let row = BatchRow {
                batch: Arc::new((*batch).clone()),
                key: self
                    .key(batch)
                    .ok_or_else(|| SqlError::fault("an unregistered LLM or metric"))?,
                recorded_at: self.now,
            };
            self.staged.batches.insert(id, row);
            if publication == Publication::Queued {
                self.staged.outbox.insert(id);
            }
            inserted.insert(id);
        }
        Ok(inserted)
    }

    async fn enter_ledger(&mut self, batches: &[LedgerCandidate]) -> Result<EnteredIntoLedger, SqlError> {
        let forgotten = self.sabotage == Sabotage::LedgerForgets;
        let new = batches
            .iter()
            .map(|batch| batch.id)
            .filter(|id| forgotten || !self.tables.ledger.contains(id));
        let new: HashSet<_> = new.collect();
        self.staged.ledger.extend(&new);
        Ok(EnteredIntoLedger {
            new,
            retained_from: EVERYTHING_KEPT,
        })
    }

    async fn counted(&mut self, ids: &[BatchId]) -> Result<HashSet<BatchId>, SqlError> {
        let counted = ids.iter().copied().filter(|id| self.tables.ledger.contains(id));
        Ok(counted.collect())
    }

    async fn lock_statistics(&mut self, rows: &[RowKey]) -> Result<Vec<(RowKey, Vec<u8>)>, SqlError> {
        let states = rows
            .iter()
            .filter_map(|row| Some((*row, self.tables.statistics.get(row)?.clone())));
        Ok(states.collect())
    }

    async fn write_statistics(&mut self, rows: &[RowState]) -> Result<(), SqlError> {
        self.staged.statistics.extend_from_slice(rows);
        Ok(())
    }
}
