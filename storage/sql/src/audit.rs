//! The comparison of the statistics with the stored batches.

use std::collections::BTreeSet;

use storage::{Audit, Hour, Mismatch};

use crate::{
    SqlError,
    recomputation::{Differences, StatisticsReader, compare_all_time, compare_hours, fold_hours},
    statistics_rows::RowKey,
};

/// [`Reconciliation::audit`](storage::Reconciliation::audit), in a transaction that reads everything from one snapshot.
/// Memory: a page of batches, and at most one row per batch.
///
/// # Errors
/// The transaction's.
pub async fn run<T: StatisticsReader>(
    reader: &mut T,
    from: Option<Hour>,
    batches: u64,
) -> Result<Audit, SqlError> {
    let retained_from = reader.retained_from().await?;
    let from = from.map_or(retained_from, |from| from.max(retained_from));
    let folded = fold_hours(reader, from, batches.max(1), &|_| {}).await?;
    let (batches, next) = (folded.batches, folded.next);
    let mut found = Findings::default();
    found.note(compare_hours(reader, folded).await?);
    if next.is_none() {
        found.note(compare_all_time(reader).await?);
    }
    Ok(Audit {
        batches,
        rows: found.rows,
        mismatches: found.mismatches.into_iter().collect(),
        next,
    })
}

#[derive(Default)]
struct Findings {
    rows: u64,
    mismatches: BTreeSet<Mismatch>,
}

impl Findings {
    fn note(&mut self, differences: Differences) {
        // Rows without values say nothing wrong.
        let unaccounted = differences.unaccounted.iter().filter(|row| row.n != 0);
        let unaccounted: Vec<RowKey> = unaccounted.map(|row| row.row).collect();
        self.rows += differences.expected + unaccounted.len() as u64;
        let wrong = differences.wrong.iter().map(|row| row.row);
        let all = wrong.chain(unaccounted).chain(differences.undecodable);
        self.mismatches
            .extend(all.map(|RowKey { key, period }| Mismatch { key, period }));
    }
}
