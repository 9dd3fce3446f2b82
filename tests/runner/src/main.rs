//! `make test`: runs every test, with one PostgreSQL and one RabbitMQ for all of them, and ends with one line.
//!
//! Usage: `run-tests [OPTIONS OF cargo test AND cargo nextest run]`, such as `run-tests --package outbox`; without
//! options the whole workspace. With cargo-nextest where it is installed, with cargo alone otherwise.

mod cargo;
mod libtest;
mod nextest;
mod outcome;
mod scratch;
mod servers;

use std::{env, io::Write, process::ExitCode, time::Instant};

use anyhow::Context;

use crate::{cargo::Cargo, outcome::Outcome, servers::Servers};

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
    let mut selection: Vec<String> = env::args().skip(1).collect();
    if selection.is_empty() {
        selection.push("--workspace".to_owned());
    }
    let cargo = Cargo::new(selection);
    let has_nextest = cargo.has_nextest();

    // Compiled before the servers start, with cargo's own output: what does not compile ends here.
    let programs = cargo.compile()?;
    let scratch = scratch::directory()?;
    // For the servers; the tests learn it from the environment.
    tempfile::env::override_temp_dir(scratch.path())
        .map_err(|other| anyhow::anyhow!("temporary files already go to {}", other.display()))?;
    let servers = Servers::start().context("could not start the servers that the tests share")?;
    let mut variables = servers.variables();
    variables.push(("TMPDIR", scratch.path().to_string_lossy().into_owned()));
    let cargo = cargo.with_variables(variables);
    let began = Instant::now();
    let mut outcome = Outcome::default();
    if has_nextest {
        outcome.add(nextest::run(&cargo)?);
        if cargo.selects_documentation() {
            outcome.add(libtest::run(&cargo, libtest::Which::Documentation, &programs)?);
        }
    } else {
        outcome.add(libtest::run(&cargo, libtest::Which::All, &programs)?);
    }
    say(&outcome.line(began.elapsed()));
    Ok(outcome.passed())
}

fn say(line: &str) {
    // Nobody is left to tell where the standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
