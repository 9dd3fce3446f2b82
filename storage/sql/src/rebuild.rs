//! The recomputation of all statistics, in one transaction during which nobody else counts batches.

use async_trait::async_trait;
use storage::RebuildReport;

use crate::{
    SqlError,
    recomputation::{Differences, StatisticsReader, compare_all_time, compare_hours, fold_hours},
    statistics_rows::{RowKey, RowState},
};

/// Hours are compared and written whenever they hold this many batches: bounds the rows that are in memory.
const BATCHES_AT_A_TIME: u64 = 1024;

/// An open transaction of a backend that keeps everybody else from counting and pruning until it ends.
#[async_trait]
pub trait RebuildTransaction: StatisticsReader {
    /// Makes readers of changes read everything again: they are not told of rows that are gone. Called first.
    async fn start_generation(&mut self) -> Result<(), SqlError>;

    /// Writes rows in place of those under their keys, if any.
    async fn write(&mut self, rows: &[RowState]) -> Result<(), SqlError>;

    /// Deletes rows.
    async fn delete(&mut self, rows: &[RowKey]) -> Result<(), SqlError>;
}

/// [`Projection::rebuild`](storage::Projection::rebuild), where the ledger holds `counted` batches from the first retained
/// hour on. Memory: a page of batches, the rows of one hour or of
/// `BATCHES_AT_A_TIME` batches, and at most one row per key, however long the history is.
///
/// # Errors
/// The transaction's; a fault where the batches that were folded are not those in the ledger, or where a row of pruned
/// batches, from which all-time rows are made, does not decode.
pub async fn run<T: RebuildTransaction>(
    transaction: &mut T,
    counted: u64,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<RebuildReport, SqlError> {
    progress(0, counted);
    transaction.start_generation().await?;
    let mut report = RebuildReport {
        batches: 0,
        rows: 0,
        changed: 0,
    };
    let mut next = Some(transaction.retained_from().await?);
    while let Some(from) = next {
        let before = report.batches;
        let folded = fold_hours(transaction, from, BATCHES_AT_A_TIME, &|folded| {
            progress(before + folded, counted);
        })
        .await?;
        report.batches += folded.batches;
        next = folded.next;
        let differences = compare_hours(transaction, folded).await?;
        put_right(transaction, differences, &mut report).await?;
    }
    if report.batches != counted {
        let found = format!(
            "{} batches were folded, and {counted} are counted",
            report.batches
        );
        return Err(SqlError::fault(found));
    }
    let differences = compare_all_time(transaction).await?;
    if let Some(row) = differences.undecodable.first() {
        let found = format!("the row {row:?} of pruned batches cannot be decoded");
        return Err(SqlError::fault(found));
    }
    put_right(transaction, differences, &mut report).await?;
    Ok(report)
}

async fn put_right<T: RebuildTransaction>(
    transaction: &mut T,
    differences: Differences,
    report: &mut RebuildReport,
) -> Result<(), SqlError> {
    report.rows += differences.expected;
    report.changed += (differences.wrong.len() + differences.unaccounted.len()) as u64;
    if !differences.wrong.is_empty() {
        transaction.write(&differences.wrong).await?;
    }
    if !differences.unaccounted.is_empty() {
        let rows: Vec<RowKey> = differences.unaccounted.iter().map(|row| row.row).collect();
        transaction.delete(&rows).await?;
    }
    Ok(())
}
