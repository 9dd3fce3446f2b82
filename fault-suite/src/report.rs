//! What is printed.

#![expect(clippy::print_stdout, reason = "a command line speaks to people")]

use std::process::ExitCode;

use crate::{
    matrix::Fault,
    verdict::{Outcome, Verdict},
};

/// One line of the table.
pub(crate) struct Row {
    fault: Fault,
    verdict: anyhow::Result<Verdict>,
}

pub(crate) fn list(faults: &[&Fault]) {
    for fault in faults {
        let when = if fault.quick { "quick" } else { "full" };
        println!("{:>3}  {when:<5}  {}", fault.number, fault.name);
    }
}

pub(crate) fn begin(fault: &Fault) {
    println!("{:>3}  {} …", fault.number, fault.name);
}

/// Tells of a failure at once: the rest may take long.
pub(crate) fn row(fault: &Fault, verdict: anyhow::Result<Verdict>) -> Row {
    if let Err(error) = &verdict {
        println!("     FAILED: {error:#}");
    }
    Row {
        fault: *fault,
        verdict,
    }
}

fn first_words(error: &anyhow::Error) -> String {
    const WIDTH: usize = 100;
    format!("{error:#}").chars().take(WIDTH).collect()
}

/// The table of all faults. Fails where one of them has.
pub(crate) fn table(rows: &[Row]) -> ExitCode {
    const MIB: u64 = 1024 * 1024;
    println!(
        "\n  #  {:<58} {:>8} {:>12} {:>4} {:>7} {:>8} {:>8}  evidence",
        "fault", "injected", "recovered in", "lost", "doubled", "batches", "memory"
    );
    for Row { fault, verdict } in rows {
        print!("{:>3}  {:<58} ", fault.number, fault.name);
        match verdict {
            Ok(Verdict::Held(Outcome {
                injected,
                recovered,
                lost,
                doubled,
                batches,
                peak_memory,
                evidence,
            })) => println!(
                "{injected:>8} {:>10.1} s {lost:>4} {doubled:>7} {batches:>8} {:>4} MiB  {evidence}",
                recovered.as_secs_f64(),
                peak_memory / MIB
            ),
            Ok(Verdict::NotRun(reason)) => println!("NOT RUN: {reason}"),
            Err(error) => println!("FAILED: {}", first_words(error)),
        }
    }
    let failed = rows.iter().filter(|row| row.verdict.is_err()).count();
    let not_run = rows
        .iter()
        .filter(|row| matches!(row.verdict, Ok(Verdict::NotRun(_))))
        .count();
    println!(
        "\n{} faults: {} held, {failed} failed, {not_run} not run",
        rows.len(),
        rows.len() - failed - not_run
    );
    if failed == 0 && !rows.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
