//! What is printed.

#![expect(clippy::print_stdout, reason = "a command line speaks to people")]

use std::{process::ExitCode, time::Duration};

use crate::{
    matrix::Fault,
    verdict::{Miscounted, Outcome, Verdict},
};

/// One line of the table.
pub(crate) struct Row {
    fault: Fault,
    verdict: anyhow::Result<Verdict>,
    /// The whole fault, its servers' start included where it had to start them.
    took: Duration,
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

pub(crate) fn warn(error: &anyhow::Error) {
    println!("{error:#}");
}

/// Tells of a failure at once: the rest may take long.
pub(crate) fn row(fault: &Fault, verdict: anyhow::Result<Verdict>, took: Duration) -> Row {
    if let Err(error) = &verdict {
        println!("     FAILED: {error:#}");
        println!(
            "     The services' logs: fault-logs/{:02}-* beside this program",
            fault.number
        );
    }
    Row {
        fault: *fault,
        verdict,
        took,
    }
}

fn first_words(error: &anyhow::Error) -> String {
    const WIDTH: usize = 100;
    format!("{error:#}").chars().take(WIDTH).collect()
}

/// The table of all faults. Fails where one of them has, or where there are fewer than expected.
pub(crate) fn table(rows: &[Row], expected: usize) -> ExitCode {
    println!(
        "\n  #  {:<58} {:>8} {:>12} {:>4} {:>7} {:>8} {:>8} {:>6}  evidence",
        "fault", "injected", "recovered in", "lost", "doubled", "batches", "memory", "took"
    );
    rows.iter().for_each(print);
    let failed = rows.iter().filter(|row| row.verdict.is_err()).count();
    let not_run = rows
        .iter()
        .filter(|row| matches!(row.verdict, Ok(Verdict::NotRun(_))))
        .count();
    let took: Duration = rows.iter().map(|row| row.took).sum();
    println!(
        "\n{} faults in {} s: {} held, {failed} failed, {not_run} not run",
        rows.len(),
        took.as_secs(),
        rows.len() - failed - not_run
    );
    if rows.len() < expected {
        println!("interrupted: {} faults were not reached", expected - rows.len());
    }
    if failed == 0 && rows.len() == expected && expected > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print(Row { fault, verdict, took }: &Row) {
    const MIB: u64 = 1024 * 1024;
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
            "{injected:>8} {:>10.1} s {lost:>4} {doubled:>7} {batches:>8} {:>4} MiB {:>4} s  {evidence}",
            recovered.as_secs_f64(),
            peak_memory / MIB,
            took.as_secs()
        ),
        Ok(Verdict::NotRun(reason)) => println!("NOT RUN: {reason}"),
        Err(error) => match error.downcast_ref::<Miscounted>() {
            Some(Miscounted { lost, doubled }) => {
                println!("{:>8} {:>12} {lost:>4} {doubled:>7} FAILED", "", "");
            }
            None => println!("FAILED: {}", first_words(error)),
        },
    }
}
