//! One of the two clients in a process of its own, on one core.

use std::{env, process::Command, thread, time::Duration};

use anyhow::Context;
use clap::ValueEnum;
use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

use crate::{
    engine,
    figures::{Figures, Seen, SelfReport},
    machine::{CLIENT_CORE, Used, go_first, most_resident_mib, pin_to},
    naive,
    scenario::Scenario,
};

/// Its role's name on the command line.
pub(crate) const ROLE: &str = "client";

/// How long streams may take to end after the last request was begun, beyond a round of their own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Who sends the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Client {
    /// The load test's engine.
    LlmBench,
    /// The loop that one would write first.
    Naive,
}

/// What a client saw.
#[derive(Debug)]
pub(crate) struct Ran {
    pub requests: Vec<Seen>,
    /// What it says of itself.
    pub says: Option<SelfReport>,
}

/// The parent's side: runs the process and reads its figures.
pub(crate) fn measure(client: Client, scenario: &Scenario, base_url: &str) -> anyhow::Result<Figures> {
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

/// The child's side: loads the server and prints the figures.
#[expect(clippy::print_stdout, reason = "to the parent process")]
pub(crate) fn run(client: Client, base_url: &str, scenario: &Scenario) -> anyhow::Result<()> {
    pin_to(CLIENT_CORE)?;
    go_first();
    load_test::run::raise_file_limit()?;
    let begun = MonotonicTime::now();
    let steady_from = begun + scenario.ramp;
    let steady_to = steady_from + scenario.steady;
    let (ran, used, resident_mib) = thread::scope(|scope| {
        let running = scope.spawn(|| match client {
            Client::LlmBench => engine::run(scenario, base_url),
            Client::Naive => naive::run(scenario, base_url, begun),
        });
        sleep_until(steady_from);
        let before = Used::now()?;
        sleep_until(steady_to);
        let (after, resident_mib) = (Used::now()?, most_resident_mib()?);
        let ran = running
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        anyhow::Ok((ran, (before, after), resident_mib))
    })?;
    let figures = Figures::of(
        scenario,
        client,
        &ran,
        (steady_from, steady_to),
        used,
        resident_mib,
    )?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

fn sleep_until(moment: MonotonicTime) {
    thread::sleep(moment.saturating_since(MonotonicTime::now()));
}
