//! `make test`: runs every test, with one PostgreSQL and one RabbitMQ for all of them, and ends with one line.
//!
//! Usage: `run-tests [OPTIONS OF cargo test AND cargo nextest run]`, such as `run-tests --package outbox`; without
//! options the whole workspace. With cargo-nextest where it is installed, with cargo alone otherwise.

mod cargo;
mod children;
mod libtest;
mod nextest;
mod outcome;
mod scratch;
mod servers;

use std::{collections::BTreeMap, env, io::Write, process::ExitCode, time::Instant};

use anyhow::{Context, ensure};
use tokio::runtime::Runtime;

use crate::{cargo::Cargo, children::Children, outcome::Outcome, scratch::Scratch, servers::Servers};

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
    let children = Children::new(&runtime)?;
    let mut selection: Vec<String> = env::args().skip(1).collect();
    if selection.is_empty() {
        selection.push("--workspace".to_owned());
    }
    let cargo = Cargo::new(selection, children.clone());
    let has_nextest = cargo.has_nextest();

    // Compiled before the servers start, with cargo's own output: what does not compile ends here.
    let programs = cargo.compile()?;
    let scratch = Scratch::create()?;
    // For the servers; the tests learn it from the environment.
    tempfile::env::override_temp_dir(scratch.path())
        .map_err(|other| anyhow::anyhow!("temporary files already go to {}", other.display()))?;
    let servers = runtime
        .block_on(Servers::start())
        .context("could not start the servers that the tests share")?;
    let mut variables = servers.variables();
    variables.push(("TMPDIR", scratch.path().to_string_lossy().into_owned()));
    let cargo = cargo.with_variables(variables);
    let began = Instant::now();
    let outcome = run_all(&cargo, has_nextest, &programs);
    // Then nothing else that went wrong says anything.
    ensure!(!children.is_interrupted(), "interrupted");
    let outcome = outcome?;
    say(&outcome.line(began.elapsed()));
    Ok(outcome.passed())
}

fn run_all(cargo: &Cargo, has_nextest: bool, programs: &BTreeMap<String, String>) -> anyhow::Result<Outcome> {
    if !has_nextest {
        return libtest::run(cargo, libtest::Which::All, programs);
    }
    let mut outcome = nextest::run(cargo)?;
    if cargo.selects_documentation() {
        outcome.add(libtest::run(cargo, libtest::Which::Documentation, programs)?);
    }
    Ok(outcome)
}

fn say(line: &str) {
    // Nobody is left to tell where the standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
