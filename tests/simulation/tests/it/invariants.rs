//! What must hold once everything is quiet. Expected values come from the stored arrays, by integers of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use shared_types::{BatchId, MetricBatch, message};
use statistics::RunningStatistics;
use storage_sql::statistics_rows::RowKey;

use crate::{
    broker::Queue,
    client::Client,
    database::{REFUSED, Store, Tables, rows_of},
    workload::GRID,
};

/// The places where the truth lies.
#[derive(Debug)]
pub(crate) struct Invariants<'r> {
    pub(crate) store: &'r Store,
    pub(crate) queue: &'r Queue,
    pub(crate) clients: &'r [Arc<Client>],
    pub(crate) foreign: &'r [(Duration, Bytes)],
}

/// Exact sums of values on the grid, in steps of it.
#[derive(Debug, Default)]
struct Exact {
    n: i128,
    sum: i128,
    squares: i128,
    min: Option<i128>,
    max: Option<i128>,
}

impl Exact {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the values are whole steps of the grid"
    )]
    fn add(&mut self, value: f64) {
        let steps = (value * GRID) as i128;
        self.n += 1;
        self.sum += steps;
        self.squares += steps * steps;
        self.min = Some(self.min.map_or(steps, |min| min.min(steps)));
        self.max = Some(self.max.map_or(steps, |max| max.max(steps)));
    }

    /// The bits of count, sum, mean, sample variance, min and max. Every integer here is below 2^53, so each is a
    /// double, and each quotient is rounded once.
    fn bits(&self) -> [Option<u64>; 6] {
        let degrees = self.n * (self.n - 1);
        let variance = (degrees > 0).then(|| {
            let deviations = self.n * self.squares - self.sum * self.sum;
            deviations as f64 / degrees as f64 / (GRID * GRID)
        });
        let scaled = |steps: i128| steps as f64 / GRID;
        [
            Some(self.n as f64),
            Some(scaled(self.sum)),
            Some(self.sum as f64 / self.n as f64 / GRID),
            variance,
            self.min.map(scaled),
            self.max.map(scaled),
        ]
        .map(|value| value.map(f64::to_bits))
    }
}

fn bits_of(statistics: &RunningStatistics) -> [Option<u64>; 6] {
    [
        Some(statistics.count() as f64),
        statistics.sum(),
        statistics.mean(),
        statistics.variance(),
        statistics.min(),
        statistics.max(),
    ]
    .map(|value| value.map(f64::to_bits))
}

/// What must have become of a message that somebody else published.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Counted,
    Dead,
}

impl Invariants<'_> {
    /// What is still to be done; `None` where nothing is.
    pub(crate) fn unfinished(&self) -> Option<String> {
        let tables = self.store.tables();
        let uncounted = tables
            .batches
            .keys()
            .filter(|id| !tables.ledger.contains(id))
            .count();
        if let Some(client) = self.clients.iter().position(|client| !client.is_done()) {
            Some(format!("client {client} has no answer"))
        } else if !tables.outbox.is_empty() {
            Some(format!("I3: {} rows in the outbox", tables.outbox.len()))
        } else if !self.queue.is_empty() {
            Some("I3: messages in the queue".to_owned())
        } else if uncounted > 0 {
            Some(format!("I1: {uncounted} stored batches are not in the ledger"))
        } else {
            None
        }
    }

    /// Dead letters for which the database is to blame, and not the message.
    pub(crate) fn innocent_dead_letters(&self) -> Vec<String> {
        let letters = self.queue.dead();
        let refused = letters.iter().filter(|letter| letter.reason.contains(REFUSED));
        refused
            .filter(|letter| {
                let batches = message::decode(&letter.body).unwrap_or_default();
                let may_be_rejected = |batch: &MetricBatch| self.store.may_be_rejected(batch.id(), letter.at);
                !batches.iter().any(may_be_rejected)
            })
            .map(|letter| format!("an innocent dead letter: {}", letter.reason))
            .collect()
    }

    /// What is wrong at the end.
    pub(crate) fn violations(&self) -> Vec<String> {
        let tables = self.store.tables();
        let mut wrong = Vec::new();
        self.check_ledger(&tables, &mut wrong);
        check_statistics(&tables, &mut wrong);
        self.check_answers(&tables, &mut wrong);
        self.check_foreign(&tables, &mut wrong);
        wrong
    }

    fn check_ledger(&self, tables: &Tables, wrong: &mut Vec<String>) {
        let stored: BTreeSet<_> = tables.batches.keys().collect();
        let counted: BTreeSet<_> = tables.ledger.iter().collect();
        for id in stored.symmetric_difference(&counted) {
            wrong.push(format!("I1: {id} is either stored or counted, not both"));
        }
        if !tables.outbox.is_empty() || !self.queue.is_empty() {
            wrong.push("I3: outbox or queue is not empty".to_owned());
        }
    }

    /// What a client was told is true.
    fn check_answers(&self, tables: &Tables, wrong: &mut Vec<String>) {
        let stored = |id: &BatchId| tables.batches.get(id).map(|row| row.batch.checksum());
        for answers in self.clients.iter().map(|client| client.answers()) {
            for (id, checksum) in &answers.stored {
                if stored(id) != Some(*checksum) {
                    wrong.push(format!("{id} was submitted with success and is not stored"));
                }
            }
            for (id, checksum) in &answers.refused {
                if stored(id).is_none_or(|stored| stored == *checksum) {
                    wrong.push(format!("{id} was refused, and no other content is stored"));
                }
            }
            if answers.malformed > 0 {
                wrong.push("an answer does not have one outcome per batch".to_owned());
            }
        }
    }

    /// Every message from outside is counted or a dead letter, and nothing else is a dead letter. Of a purged one
    /// either may be true, or neither.
    fn check_foreign(&self, tables: &Tables, wrong: &mut Vec<String>) {
        let dead: BTreeSet<Bytes> = self.queue.dead().into_iter().map(|letter| letter.body).collect();
        let purged: BTreeSet<Bytes> = self.queue.purged().into_iter().collect();
        let mut expected = BTreeSet::new();
        for (_, body) in self.foreign {
            let due = due(body, tables);
            if due == Due::Dead {
                expected.insert(body.clone());
            }
            if purged.contains(body) {
                continue;
            }
            match due {
                Due::Dead if !dead.contains(body) => {
                    wrong.push(format!("I3: no dead letter of {body:?}"));
                }
                Due::Counted if !is_counted(body, tables) => {
                    wrong.push(format!("I1: not counted: {body:?}"));
                }
                Due::Dead | Due::Counted => {}
            }
        }
        for unexpected in dead.difference(&expected) {
            wrong.push(format!("I3: an unexpected dead letter: {unexpected:?}"));
        }
    }
}

/// I2.
fn check_statistics(tables: &Tables, wrong: &mut Vec<String>) {
    let mut expected: BTreeMap<RowKey, Exact> = BTreeMap::new();
    for row in tables.batches.values() {
        for row_key in rows_of(row) {
            let exact = expected.entry(row_key).or_default();
            for value in row.batch.values() {
                exact.add(*value);
            }
        }
    }
    if !expected.keys().eq(tables.statistics.keys()) {
        wrong.push("I2: there are other rows than the stored batches say".to_owned());
    }
    for (row, state) in &tables.statistics {
        let found = RunningStatistics::from_bytes(state).map(|statistics| bits_of(&statistics));
        let expected = expected.get(row).map(Exact::bits);
        if found.as_ref().ok() != expected.as_ref() {
            wrong.push(format!("I2: {row:?}: found {found:?}, expected {expected:?}"));
        }
    }
}

fn due(body: &Bytes, tables: &Tables) -> Due {
    let Ok(batches) = message::decode(body) else {
        return Due::Dead;
    };
    if batches.iter().any(|batch| is_refused(batch, tables)) {
        Due::Dead
    } else {
        Due::Counted
    }
}

fn is_refused(batch: &MetricBatch, tables: &Tables) -> bool {
    if let Some(stored) = tables.batches.get(&batch.id()) {
        return stored.batch.checksum() != batch.checksum();
    }
    let metric = tables
        .metrics
        .iter()
        .find(|metric| metric.title == *batch.metric());
    metric.is_none_or(|metric| {
        let unit = batch.content().unit.as_ref();
        unit.is_some_and(|unit| *unit != metric.unit)
    })
}

fn is_counted(body: &Bytes, tables: &Tables) -> bool {
    let batches = message::decode(body).unwrap_or_default();
    batches.iter().all(|batch| tables.ledger.contains(&batch.id()))
}
