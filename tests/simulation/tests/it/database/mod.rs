//! A database in memory: it decides with the real code of [`storage_sql`], survives every crash of a process, and fails in
//! the ways that databases do.

mod reconciliation;
mod tables;
mod unsimulated;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt;
use shared_types::{BatchId, MetricBatch, RegistrySeed};
use storage::{
    Applied, HistoryFilter, Hour, Outbox, OutboxDepth, Projection, RebuildReport, Recorded, Result, Revision,
    StatisticsChange, StatisticsRow, StorageError,
};
use storage_sql::{SqlError, admission, counting};

use self::tables::{Staged, Transaction};
pub(crate) use self::tables::{Tables, rows_of};
use crate::{
    event_counts::Event,
    sabotage::Sabotage,
    world::{Process, World},
};

/// The durable half: one for all processes.
#[derive(Debug)]
pub(crate) struct Store {
    tables: Mutex<Tables>,
    history: Mutex<History>,
    sabotage: Sabotage,
}

/// What the checks want to know beside the tables. In virtual time since the start.
#[derive(Debug, Default)]
struct History {
    /// When transactions with each batch were refused permanently.
    refused: BTreeMap<BatchId, Vec<Duration>>,
    /// When something was counted.
    counted: BTreeSet<Duration>,
}

impl Store {
    pub(crate) fn new(seed: &RegistrySeed, sabotage: Sabotage) -> Arc<Self> {
        Arc::new(Self {
            tables: Mutex::new(Tables::seeded(seed)),
            history: Mutex::default(),
            sabotage,
        })
    }

    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a consumer may give up a batch at this time: the database has refused it twice, and counted something
    /// since the first time.
    pub(crate) fn may_be_rejected(&self, id: BatchId, at: Duration) -> bool {
        let History { refused, counted } = &*self.history();
        let refused = refused.get(&id).map(Vec::as_slice).unwrap_or_default();
        let mut refused = refused.iter().filter(|refused| **refused <= at);
        match (refused.next(), refused.next()) {
            (Some(first), Some(_)) => counted.range(*first..=at).next().is_some(),
            _ => false,
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process's connection to the database.
#[derive(Debug)]
pub(crate) struct SimulatedDatabase {
    pub(crate) process: Arc<Process>,
    pub(crate) store: Arc<Store>,
}

/// A call, as far as its faults depend on it.
struct Call<'c> {
    operation: &'static str,
    writes: bool,
    /// The batches it is about, for faults of single batches.
    ids: &'c [BatchId],
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    UnavailableBefore,
    /// The effect happens; the reply is lost.
    UnavailableAfter,
    Refused,
}

impl Call<'_> {
    fn fate(&self, world: &World) -> Fate {
        let now = world.elapsed();
        world.choose(|random, faults| {
            let faults = &faults.database;
            let refused_until = |id: &BatchId| faults.refused_until.get(id).is_some_and(|until| now < *until);
            if now < faults.away_until || random.chance(faults.unavailable_before) {
                Fate::UnavailableBefore
            } else if self.writes
                && (now < faults.read_only_until
                    || self.ids.iter().any(refused_until)
                    || random.chance(faults.permanent))
            {
                Fate::Refused
            } else if random.chance(faults.ambiguous_commit) {
                Fate::UnavailableAfter
            } else {
                Fate::Works
            }
        })
    }

    fn unavailable(&self) -> StorageError {
        StorageError::Unavailable {
            operation: self.operation,
            source: "the simulated database is away, or its reply is lost".into(),
        }
    }

    fn fault(&self) -> StorageError {
        StorageError::Fault {
            operation: self.operation,
            source: REFUSED.into(),
        }
    }
}

/// How dead letters that the database's refusals made are told from others.
pub(crate) const REFUSED: &str = "the simulated database refuses the write";

impl SimulatedDatabase {
    fn world(&self) -> &World {
        &self.process.world
    }

    /// Every call comes by here: there and back take time, at both ends the process may crash, and the fate decides
    /// what happens in between.
    async fn call<T>(&self, call: Call<'_>, effect: impl FnOnce(&mut Tables) -> Result<T>) -> Result<T> {
        let world = self.world();
        self.process.point(call.operation, "before").await;
        self.process.travel().await;
        let fate = call.fate(world);
        let done = match fate {
            Fate::Works => effect(&mut self.store.tables()),
            Fate::UnavailableBefore => {
                world.count(Event::UnavailableBefore);
                Err(call.unavailable())
            }
            Fate::UnavailableAfter => effect(&mut self.store.tables()).and_then(|_effect| {
                world.count_many(Event::AmbiguousCommit, call.writes.into());
                Err(call.unavailable())
            }),
            Fate::Refused => {
                world.count(Event::PermanentFault);
                let mut history = self.store.history();
                for id in call.ids {
                    history.refused.entry(*id).or_default().push(world.elapsed());
                }
                Err(call.fault())
            }
        };
        world.note(format_args!(
            "{} {} ({}): {fate:?}",
            self.process.name,
            call.operation,
            call.ids.len()
        ));
        self.process.point(call.operation, "after").await;
        self.process.travel().await;
        done
    }

    /// Runs one transaction of the real steps and commits it.
    fn commit<T>(
        &self,
        tables: &mut Tables,
        operation: &'static str,
        steps: impl FnOnce(&mut Transaction<'_>) -> std::result::Result<T, SqlError>,
    ) -> Result<T> {
        let now = self.world().elapsed();
        let mut transaction = Transaction {
            tables,
            now,
            sabotage: self.store.sabotage,
            staged: Staged::default(),
        };
        let outcome = steps(&mut transaction).map_err(|error| error.during(operation))?;
        let staged = transaction.staged;
        for wrong in tables.commit(staged, now) {
            self.world().violated(format!("I6: {wrong}"));
        }
        Ok(outcome)
    }
}

fn ids_of(batches: &[MetricBatch]) -> Vec<BatchId> {
    batches.iter().map(MetricBatch::id).collect()
}

#[async_trait]
impl Outbox for SimulatedDatabase {
    async fn record(&self, batches: &[MetricBatch]) -> Result<Vec<Recorded>> {
        const OPERATION: &str = "record batches";
        let partial = batches.len() > 1
            && self
                .world()
                .choose(|random, faults| random.chance(faults.database.partial_record));
        let recorded_now = if partial {
            &batches[..batches.len() / 2]
        } else {
            batches
        };
        let call = Call {
            operation: OPERATION,
            writes: true,
            ids: &ids_of(recorded_now),
        };
        let recorded = self.call(call, |tables| {
            let recorded = self.commit(tables, OPERATION, |transaction| {
                admission::record(transaction, recorded_now, HashSet::new())
                    .now_or_never()
                    .expect("the transaction never waits")
            })?;
            if self.store.sabotage == Sabotage::OutboxForgets {
                tables.outbox.clear();
            }
            Ok(recorded)
        });
        let recorded = recorded.await?;
        if partial {
            self.world().count(Event::PartialRecord);
            return Err(StorageError::Unavailable {
                operation: OPERATION,
                source: "the simulated database went away after the first transaction".into(),
            });
        }
        let other_content = recorded
            .iter()
            .filter(|recorded| matches!(recorded, Recorded::Refused(_)));
        self.world()
            .count_many(Event::RefusedAsOtherContent, other_content.count() as u64);
        Ok(recorded)
    }

    async fn claim_unpublished(
        &self,
        limit: u32,
        grace: Duration,
        lease: Duration,
    ) -> Result<Vec<MetricBatch>> {
        let call = Call {
            operation: "claim unpublished batches",
            writes: true,
            ids: &[],
        };
        self.call(call, |tables| {
            let now = self.world().elapsed();
            let mut due: Vec<_> = tables
                .outbox
                .iter_mut()
                .filter(|(_, row)| {
                    row.recorded_at + grace <= now && row.claimed_at.is_none_or(|at| at + lease <= now)
                })
                .collect();
            due.sort_by_key(|(id, row)| (row.recorded_at, **id));
            due.truncate(limit as usize);
            let mut claimed = Vec::with_capacity(due.len());
            for (id, row) in due {
                let lapsed = row.claimed_at.replace(now).is_some();
                self.world().count_many(Event::ClaimLapsed, lapsed.into());
                claimed.push((*tables.batches[id].batch).clone());
            }
            self.world().count_many(Event::Swept, claimed.len() as u64);
            Ok(claimed)
        })
        .await
    }

    async fn mark_published(&self, ids: &[BatchId]) -> Result<()> {
        let call = Call {
            operation: "mark batches as published",
            writes: true,
            ids,
        };
        self.call(call, |tables| {
            for id in ids {
                tables.outbox.remove(id);
            }
            Ok(())
        })
        .await
    }

    async fn outbox_depth(&self) -> Result<OutboxDepth> {
        let call = Call {
            operation: "count unpublished batches",
            writes: false,
            ids: &[],
        };
        self.call(call, |tables| {
            let now = self.world().elapsed();
            let oldest = tables.outbox.values().map(|row| row.recorded_at).min();
            Ok(OutboxDepth {
                unpublished: tables.outbox.len() as u64,
                oldest: oldest.map(|at| now.saturating_sub(at)),
            })
        })
        .await
    }
}

#[async_trait]
impl Projection for SimulatedDatabase {
    async fn apply(&self, batches: &[MetricBatch]) -> Result<Vec<Applied>> {
        const OPERATION: &str = "apply batches";
        let call = Call {
            operation: OPERATION,
            writes: true,
            ids: &ids_of(batches),
        };
        self.call(call, |tables| {
            let applied = self.commit(tables, OPERATION, |transaction| {
                counting::apply(transaction, batches)
                    .now_or_never()
                    .expect("the transaction never waits")
            })?;
            let world = self.world();
            if applied.contains(&Applied::Counted) {
                self.store.history().counted.insert(world.elapsed());
            }
            for outcome in &applied {
                world.count(match outcome {
                    Applied::Counted => Event::CountedOnce,
                    Applied::Duplicate => Event::DuplicateNotCounted,
                    Applied::Refused(_) => Event::RefusedAsOtherContent,
                });
            }
            Ok(applied)
        })
        .await
    }

    async fn statistics_since(&self, _since: Option<Revision>, _horizon: Hour) -> Result<StatisticsChange> {
        unsimulated::port()
    }

    async fn history(&self, _filter: &HistoryFilter) -> Result<Vec<StatisticsRow>> {
        unsimulated::port()
    }

    async fn rebuild(&self, _progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<RebuildReport> {
        unsimulated::port()
    }

    async fn counted_batches(&self) -> Result<u64> {
        unsimulated::port()
    }
}
