//! Runs one of the two clients in a process of its own, on one core.

use std::{env, process::Command, thread};

use anyhow::Context;
use clap::ValueEnum;
use precise_time::MonotonicTime;

use crate::{
    client_run::ClientKind,
    engine,
    figures::Figures,
    machine::{CLIENT_CORE, ProcessUsage, pin_to, resident_peak_mib, take_priority},
    naive,
    scenario::Scenario,
};

/// The name of the process's role on the command line.
pub(crate) const ROLE: &str = "client";

/// In the parent process: runs the client's process and reads its figures.
pub(crate) fn measure(client: ClientKind, scenario: &Scenario, base_url: &str) -> anyhow::Result<Figures> {
    let name = client.to_possible_value().context("a name")?;
    let output = Command::new(env::current_exe()?)
        .args([ROLE, name.get_name(), base_url, &serde_json::to_string(scenario)?])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    anyhow::ensure!(
        output.status.success(),
        "the client's process failed: {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("the client's figures")
}

/// In the client's process: loads the server and prints the figures.
#[expect(clippy::print_stdout, reason = "to the parent process")]
pub(crate) fn run(client: ClientKind, base_url: &str, scenario: &Scenario) -> anyhow::Result<()> {
    pin_to(CLIENT_CORE)?;
    take_priority();
    load_test::run::raise_file_limit()?;
    let begun = MonotonicTime::now();
    let steady_from = begun + scenario.ramp;
    let steady_to = steady_from + scenario.steady;
    let (run, usage, resident_mib) = thread::scope(|scope| {
        let running = scope.spawn(|| match client {
            ClientKind::LlmBench => engine::run(scenario, base_url),
            ClientKind::Naive => naive::run(scenario, base_url, begun),
        });
        sleep_until(steady_from);
        let before = ProcessUsage::now()?;
        sleep_until(steady_to);
        let (after, resident_mib) = (ProcessUsage::now()?, resident_peak_mib()?);
        let run = running
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        anyhow::Ok((run, (before, after), resident_mib))
    })?;
    let figures = Figures::of(
        scenario,
        client,
        &run,
        (steady_from, steady_to),
        usage,
        resident_mib,
    )?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

fn sleep_until(moment: MonotonicTime) {
    thread::sleep(moment.saturating_since(MonotonicTime::now()));
}
