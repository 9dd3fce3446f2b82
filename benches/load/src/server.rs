//! Runs the mock server in a process of its own, on a core of its own.

use std::{
    env,
    io::{self, BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::Context;
use mock_llm::{MockLlm, Settings};
use serde_json::Value;

use crate::{
    machine::{SERVER_CORE, pin_to, take_priority},
    scenario::Scenario,
};

/// The name of the process's role on the command line.
pub(crate) const ROLE: &str = "serve";

/// In the server's process: prints its address, serves until its standard input ends, and prints its statistics.
#[expect(clippy::print_stdout, reason = "to the parent process")]
pub(crate) fn serve(scenario: &Scenario) -> anyhow::Result<()> {
    pin_to(SERVER_CORE)?;
    take_priority();
    load_test::run::raise_file_limit()?;
    let server = MockLlm::start(Settings {
        ttft: scenario.ttft,
        itl: scenario.itl,
        output_tokens: scenario.tokens,
        ..Settings::default()
    })?;
    println!("{}", server.base_url());
    io::stdin().read_to_end(&mut Vec::new())?;
    println!("{}", serde_json::to_string(&server.shutdown()?)?);
    Ok(())
}

/// The server's process, for the parent. When this is dropped, the server's standard input ends, and so does the server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub base_url: String,
}

impl Server {
    pub(crate) fn start(scenario: &Scenario) -> anyhow::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args([ROLE, &serde_json::to_string(scenario)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("its output")?);
        let mut base_url = String::new();
        stdout.read_line(&mut base_url)?;
        anyhow::ensure!(!base_url.is_empty(), "the mock server ended before it listened");
        Ok(Self {
            child,
            stdout,
            base_url: base_url.trim().to_owned(),
        })
    }

    /// Ends the server. Returns its p99 lateness of first tokens, in s; `None` where it wrote none.
    pub(crate) fn stop(mut self) -> anyhow::Result<Option<f64>> {
        drop(self.child.stdin.take());
        let mut stats = String::new();
        self.stdout.read_line(&mut stats)?;
        self.child.wait()?;
        let stats: Value = serde_json::from_str(&stats).context("the mock server's statistics")?;
        Ok(stats["first_token_lateness"]["p99_s"].as_f64())
    }
}
