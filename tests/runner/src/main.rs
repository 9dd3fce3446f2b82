//! `make test`: runs every test, with one PostgreSQL and one RabbitMQ for all of them, and ends with one line.
//!
//! Usage: `run-tests [OPTIONS OF cargo test AND cargo nextest run]`, such as `run-tests --package outbox`; without
//! options the whole workspace. With cargo-nextest where it is installed, with cargo alone otherwise.

mod cargo;
mod cargo_test;
mod children;
mod nextest;
mod outcome;
mod scratch;
mod servers;

use std::{env, io::Write, process::ExitCode, time::Instant};

use anyhow::{Context, ensure};
use tokio::runtime::Runtime;

use crate::{
    cargo::{Cargo, Compiled},
    children::Children,
    outcome::Outcome,
    scratch::Scratch,
    servers::Servers,
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
    let children = Children::new(&runtime)?;
    let mut selection: Vec<String> = env::args().skip(1).collect();
    if selection.is_empty() {
        selection.push("--workspace".to_owned());
    }
    let cargo = Cargo::new(selection, children.clone());
    let has_nextest = cargo.has_nextest();

    // Compiled before the servers start, with cargo's own output: what does not compile ends here.
    let compiled = unless_interrupted(&children, cargo.compile())?;
    let scratch = Scratch::create()?;
    // For the servers; the tests learn it from the environment.
    tempfile::env::override_temp_dir(scratch.path())
        .map_err(|other| anyhow::anyhow!("temporary files already go to {}", other.display()))?;
    let servers = unless_interrupted(&children, runtime.block_on(Servers::start()))
        .context("could not start the servers that the tests share")?;
    let mut variables = servers.variables();
    variables.push(("TMPDIR", scratch.path().to_string_lossy().into_owned()));
    let cargo = cargo.with_variables(variables);
    let began = Instant::now();
    let outcome = unless_interrupted(&children, run_all(&cargo, has_nextest, &compiled))?;
    say(&outcome.line(began.elapsed()));
    Ok(outcome.passed())
}

/// What was done, unless this program was asked to end meanwhile: then whatever went wrong has that reason.
fn unless_interrupted<T>(children: &Children, done: anyhow::Result<T>) -> anyhow::Result<T> {
    ensure!(!children.is_interrupted(), "interrupted");
    done
}

fn run_all(cargo: &Cargo, has_nextest: bool, compiled: &Compiled) -> anyhow::Result<Outcome> {
    if !has_nextest {
        say("run-tests: with cargo test");
        return cargo_test::run(cargo, cargo_test::Which::All, compiled);
    }
    say("run-tests: with cargo nextest");
    let mut outcome = nextest::run(cargo)?;
    if compiled.has_library && cargo.selects_documentation() {
        outcome.add(cargo_test::run(
            cargo,
            cargo_test::Which::Documentation,
            compiled,
        )?);
    }
    Ok(outcome)
}

fn say(line: &str) {
    // Nobody is left to tell where the standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
