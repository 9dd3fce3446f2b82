//! `make test`: runs every test, with one PostgreSQL and one RabbitMQ for all of them, and prints one line at the end.
//!
//! Usage: `run-tests [OPTIONS OF cargo test AND cargo nextest run]`, such as `run-tests --package outbox`; without
//! options the whole workspace. With cargo-nextest where it is installed, with cargo alone otherwise.

mod cargo;
mod cargo_test;
mod child_processes;
mod nextest;
mod servers;
mod temporary_directory;
mod test_summary;

use std::{env, io::Write, process::ExitCode, time::Instant};

use anyhow::{Context, ensure};
use tokio::runtime::Runtime;

use crate::{
    cargo::{Cargo, Compiled},
    child_processes::ChildProcesses,
    servers::Servers,
    temporary_directory::TemporaryDirectory,
    test_summary::TestSummary,
};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("run-tests: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything passed.
fn run() -> anyhow::Result<bool> {
    let runtime = Runtime::new()?;
    let children = ChildProcesses::new(&runtime)?;
    let mut selection: Vec<String> = env::args().skip(1).collect();
    if selection.is_empty() {
        selection.push("--workspace".to_owned());
    }
    let cargo = Cargo::new(selection, children.clone());
    let has_nextest = cargo.has_nextest();

    // Compiled before the servers start, with cargo's own output. Compilation errors end the run here.
    let compiled = unless_interrupted(&children, cargo.compile())?;
    let temporary_directory = TemporaryDirectory::create()?;
    // For the servers. The tests get the directory by `TMPDIR`.
    tempfile::env::override_temp_dir(temporary_directory.path())
        .map_err(|other| anyhow::anyhow!("temporary files already go to {}", other.display()))?;
    let servers = unless_interrupted(&children, runtime.block_on(Servers::start()))
        .context("could not start the servers that the tests share")?;
    let mut variables = servers.variables();
    variables.push((
        "TMPDIR",
        temporary_directory.path().to_string_lossy().into_owned(),
    ));
    let cargo = cargo.with_variables(variables);
    let began = Instant::now();
    let summary = unless_interrupted(&children, run_all(&cargo, has_nextest, &compiled))?;
    say(&summary.line(began.elapsed()));
    Ok(summary.passed())
}

/// `done`, unless this program was interrupted meanwhile: then the error is the interruption.
fn unless_interrupted<T>(children: &ChildProcesses, done: anyhow::Result<T>) -> anyhow::Result<T> {
    ensure!(!children.is_interrupted(), "interrupted");
    done
}

fn run_all(cargo: &Cargo, has_nextest: bool, compiled: &Compiled) -> anyhow::Result<TestSummary> {
    if !has_nextest {
        say("run-tests: with cargo test");
        return cargo_test::run(cargo, cargo_test::TestKind::All, compiled);
    }
    say("run-tests: with cargo nextest");
    let mut summary = nextest::run(cargo)?;
    if compiled.has_library && cargo.selects_documentation() {
        summary.add(cargo_test::run(
            cargo,
            cargo_test::TestKind::Documentation,
            compiled,
        )?);
    }
    Ok(summary)
}

fn say(line: &str) {
    // Fails where the standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
