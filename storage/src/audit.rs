//! The comparison of the statistics with the stored batches, written once for all backends.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use statistics::RunningStatistics;

use crate::{
    Audit, Hour, Mismatch, Period, StatisticsKey,
    fold::{Partials, RowKey, RowState},
    rebuild::{CountedBatch, Place},
    step::StepError,
};

/// How many batches are in memory at a time.
const BATCHES: u32 = 64;
/// How many statistics rows are, at the end.
const ROWS: u32 = 256;

/// One transaction of a backend in which everything is read from the same snapshot.
#[async_trait]
pub trait AuditTransaction: Send {
    /// The backend's error, before it is known to which operation it belongs.
    type Error: From<StepError>;

    /// The first hour whose batches are kept.
    async fn retained_from(&mut self) -> Result<Hour, Self::Error>;

    /// The next batches of the ledger from this hour on, oldest first; none after the last.
    async fn page(
        &mut self,
        from: Hour,
        after: Option<Place>,
        limit: u32,
    ) -> Result<Vec<CountedBatch>, Self::Error>;

    /// The statistics rows of the hours from the first to before the second.
    async fn hours(&mut self, from: Hour, until: Hour) -> Result<Vec<RowState>, Self::Error>;

    /// The next statistics rows in an order that keeps those of a key together; none after the last.
    async fn rows(&mut self, after: Option<RowKey>, limit: u32) -> Result<Vec<RowState>, Self::Error>;
}

/// [`Reconciliation::audit`](crate::Reconciliation::audit). Memory: a page of batches, and a row per batch at most.
///
/// # Errors
/// The transaction's.
pub async fn run<T: AuditTransaction>(
    transaction: &mut T,
    from: Option<Hour>,
    batches: u64,
) -> Result<Audit, T::Error> {
    let retained_from = transaction.retained_from().await?;
    let from = from.map_or(retained_from, |from| from.max(retained_from));
    let Folded {
        batches,
        partials,
        next,
    } = fold(transaction, from, batches.max(1)).await?;
    let mut found = Comparison::default();
    let stored = transaction.hours(from, next.unwrap_or(Hour(i64::MAX))).await?;
    found.compare(&partials.into_hours(), &stored);
    if next.is_none() {
        found.compare_all_time(transaction).await?;
    }
    Ok(Audit {
        batches,
        rows: found.rows,
        mismatches: found.mismatches.into_iter().collect(),
        next,
    })
}

struct Folded {
    batches: u64,
    partials: Partials,
    /// The hour of the first batch that was left out.
    next: Option<Hour>,
}

/// Folds whole hours until there are enough batches.
async fn fold<T: AuditTransaction>(transaction: &mut T, from: Hour, enough: u64) -> Result<Folded, T::Error> {
    let mut partials = Partials::default();
    let mut batches = 0;
    let mut last: Option<Place> = None;
    loop {
        let page = transaction.page(from, last, BATCHES).await?;
        if page.is_empty() {
            return Ok(Folded {
                batches,
                partials,
                next: None,
            });
        }
        for batch in page {
            let hour = Hour::of(batch.place.timestamp);
            let is_another_hour = last.is_some_and(|last| Hour::of(last.timestamp) != hour);
            if batches >= enough && is_another_hour {
                return Ok(Folded {
                    batches,
                    partials,
                    next: Some(hour),
                });
            }
            partials.add(batch.key, batch.place.timestamp, &batch.values)?;
            batches += 1;
            last = Some(batch.place);
        }
    }
}

#[derive(Default)]
struct Comparison {
    rows: u64,
    mismatches: BTreeSet<Mismatch>,
}

impl Comparison {
    fn compare(&mut self, expected: &BTreeMap<RowKey, RunningStatistics>, stored: &[RowState]) {
        let mut stored: BTreeMap<RowKey, &RowState> = stored.iter().map(|row| (row.row, row)).collect();
        for (key, statistics) in expected {
            self.check(stored.remove(key), &RowState::new(*key, statistics));
        }
        // What no batch accounts for. Rows without values are places that a consumer has taken.
        for row in stored.into_values().filter(|row| row.n != 0) {
            self.rows += 1;
            self.differs(row.row);
        }
    }

    fn check(&mut self, stored: Option<&RowState>, expected: &RowState) {
        self.rows += 1;
        if stored != Some(expected) {
            self.differs(expected.row);
        }
    }

    fn differs(&mut self, RowKey { key, period }: RowKey) {
        self.mismatches.insert(Mismatch { key, period });
    }

    /// The all-time row of each key against the merge of its hours, those of pruned batches included.
    async fn compare_all_time<T: AuditTransaction>(&mut self, transaction: &mut T) -> Result<(), T::Error> {
        let mut current: Option<KeyTotal> = None;
        let mut after = None;
        loop {
            let page = transaction.rows(after, ROWS).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.row);
            for row in page {
                if current.as_ref().is_none_or(|total| total.key != row.row.key) {
                    let next = KeyTotal::of(row.row.key);
                    if let Some(finished) = current.replace(next) {
                        self.check_total(finished);
                    }
                }
                if let Some(total) = &mut current
                    && !total.add(row)?
                {
                    self.differs(RowKey {
                        key: total.key,
                        period: total.last,
                    });
                }
            }
        }
        if let Some(finished) = current {
            self.check_total(finished);
        }
        Ok(())
    }

    fn check_total(&mut self, total: KeyTotal) {
        let row = RowKey {
            key: total.key,
            period: Period::AllTime,
        };
        match total.all_time {
            None if total.hours.count() == 0 => {}
            Some(stored) if stored.n == 0 && total.hours.count() == 0 => {}
            stored => self.check(stored.as_ref(), &RowState::new(row, &total.hours)),
        }
    }
}

/// The rows of one key, as far as they were read.
struct KeyTotal {
    key: StatisticsKey,
    last: Period,
    all_time: Option<RowState>,
    hours: RunningStatistics,
}

impl KeyTotal {
    fn of(key: StatisticsKey) -> Self {
        Self {
            key,
            last: Period::AllTime,
            all_time: None,
            hours: RunningStatistics::default(),
        }
    }

    /// Tells whether the row could be read.
    fn add(&mut self, row: RowState) -> Result<bool, StepError> {
        self.last = row.row.period;
        if row.row.period == Period::AllTime {
            self.all_time = Some(row);
            return Ok(true);
        }
        let statistics = match RunningStatistics::from_bytes(&row.state) {
            Ok(statistics) => statistics,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    llm.id = row.row.key.llm.0,
                    metric.id = row.row.key.metric.0,
                    source = row.row.key.source.as_str(),
                    period = ?row.row.period,
                    "a statistics row cannot be decoded"
                );
                return Ok(false);
            }
        };
        self.hours.merge(&statistics).map_err(StepError::fault)?;
        Ok(true)
    }
}
