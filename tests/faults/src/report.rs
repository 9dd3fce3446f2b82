//! The output: progress and the table of results.

#![expect(clippy::print_stdout, reason = "a command line speaks to people")]

use std::{process::ExitCode, time::Duration};

use crate::{
    fault::Fault,
    outcome::{FaultFigures, FaultOutcome, Miscounted},
    selection::Required,
};

/// One line of the table.
pub(crate) struct Row {
    fault: Fault,
    outcome: anyhow::Result<FaultOutcome>,
    /// The duration of the whole fault, including the start of its servers.
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

/// Prints a failure at once, because the remaining faults may take long.
pub(crate) fn row(fault: &Fault, outcome: anyhow::Result<FaultOutcome>, took: Duration) -> Row {
    if let Err(error) = &outcome {
        println!("     FAILED: {error:#}");
        println!(
            "     The services' logs: fault-logs/{:02}-* beside this program",
            fault.number
        );
    }
    Row {
        fault: *fault,
        outcome,
        took,
    }
}

fn first_words(error: &anyhow::Error) -> String {
    const WIDTH: usize = 100;
    format!("{error:#}").chars().take(WIDTH).collect()
}

/// Prints the table of all faults. Fails where a fault failed, where a required fault was not run, or where there are fewer
/// rows than expected.
pub(crate) fn table(rows: &[Row], expected: usize, required: &Required) -> ExitCode {
    println!(
        "\n  #  {:<58} {:>8} {:>12} {:>4} {:>7} {:>8} {:>8} {:>6}  evidence",
        "fault", "injected", "recovered in", "lost", "doubled", "batches", "memory", "took"
    );
    rows.iter().for_each(print);
    let failed = rows.iter().filter(|row| row.outcome.is_err()).count();
    let not_run = numbers_not_run(rows);
    let took: Duration = rows.iter().map(|row| row.took).sum();
    println!(
        "\n{} faults in {} s: {} held, {failed} failed, {} not run",
        rows.len(),
        took.as_secs(),
        rows.len() - failed - not_run.len(),
        not_run.len()
    );
    let missed: Vec<u8> = not_run
        .into_iter()
        .filter(|number| required.includes(*number))
        .collect();
    if !missed.is_empty() {
        println!("not run, and required (--require-all): {missed:?}");
    }
    if rows.len() < expected {
        println!("interrupted: {} faults were not reached", expected - rows.len());
    }
    if failed == 0 && missed.is_empty() && rows.len() == expected && expected > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn numbers_not_run(rows: &[Row]) -> Vec<u8> {
    rows.iter()
        .filter(|row| matches!(row.outcome, Ok(FaultOutcome::NotRun(_))))
        .map(|row| row.fault.number)
        .collect()
}

fn print(Row { fault, outcome, took }: &Row) {
    const MIB: u64 = 1024 * 1024;
    print!("{:>3}  {:<58} ", fault.number, fault.name);
    match outcome {
        Ok(FaultOutcome::Held(FaultFigures {
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
        Ok(FaultOutcome::NotRun(reason)) => println!("NOT RUN: {reason}"),
        Err(error) => match error.downcast_ref::<Miscounted>() {
            Some(Miscounted { lost, doubled }) => {
                println!("{:>8} {:>12} {lost:>4} {doubled:>7} FAILED", "", "");
            }
            None => println!("FAILED: {}", first_words(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        required: Required,
    }

    #[test]
    fn a_fault_that_this_machine_cannot_do_fails_where_it_is_required() {
        let not_run = |number| Row {
            fault: Fault {
                number,
                name: "a fault that needs root",
                quick: true,
                inject: |_| unreachable!("nothing is injected here"),
            },
            outcome: Ok(FaultOutcome::NotRun("no root".to_owned())),
            took: Duration::ZERO,
        };
        let rows = [not_run(13), not_run(14)];
        for (arguments, expected) in [
            (&["faults"][..], ExitCode::SUCCESS),
            (&["faults", "--require-all"], ExitCode::FAILURE),
            (&["faults", "--require-all", "--excuse", "14"], ExitCode::FAILURE),
            (
                &["faults", "--require-all", "--excuse", "12-14"],
                ExitCode::SUCCESS,
            ),
        ] {
            let required = Options::try_parse_from(arguments).unwrap().required;
            assert_eq!(table(&rows, rows.len(), &required), expected, "{arguments:?}");
        }
        assert!(Options::try_parse_from(["faults", "--excuse", "14"]).is_err());
    }
}
