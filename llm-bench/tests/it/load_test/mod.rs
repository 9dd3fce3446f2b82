//! `llm-bench load-test`, `compare` and `publish` as their users run them, against the mock server.

mod hostile_servers;
mod interrupted;
mod llmperf;
mod measured;
mod published;
mod secrets;
mod shares;
mod verdict;
mod workloads;
mod wrong_usage;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use mock_llm::{MockLlm, Settings};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{program, run};

/// A mock server, and a directory for what is measured of it.
struct Bench {
    mock: MockLlm,
    directory: TempDir,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        Self {
            mock: MockLlm::start(settings).unwrap(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// A server that answers within milliseconds: 8 tokens at most.
    fn quick() -> Self {
        Self::new(quick())
    }

    fn results(&self) -> PathBuf {
        self.directory.path().join("results")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The command with its results directory. No calibration, and no verdict about this machine: other tests run beside this
    /// one. `arguments` are split at spaces.
    fn command(&self, arguments: &str) -> Command {
        let mut command = load_test(&self.mock.base_url(), arguments);
        command
            .args(["--no-calibration", "--allow-invalid", "--results-dir"])
            .arg(self.results())
            .env("DATA_DIR", self.data());
        command
    }

    /// The command with nothing that was not asked for.
    fn command_as_it_is(&self, arguments: &str) -> Command {
        let mut command = program("llm-bench");
        command
            .arg("load-test")
            .args(arguments.split_whitespace())
            .env("OPENAI_API_BASE", self.mock.base_url())
            .env("HF_HUB_OFFLINE", "1");
        command
    }

    /// Runs it to a good end, and gives its report.
    fn report(&self, arguments: &str) -> Value {
        let done = run(self.command(arguments));
        assert!(done.status.success(), "{arguments}: {}", said(&done));
        report(&self.results())
    }
}

pub(crate) fn quick() -> Settings {
    Settings {
        ttft: Duration::from_millis(2),
        itl: Duration::from_millis(1),
        output_tokens: 8,
        ..Settings::default()
    }
}

/// `llm-bench load-test` of one core against the API at `base`, with short prompts of the bundled vocabulary that is the smallest.
fn load_test(base: &str, arguments: &str) -> Command {
    let mut command = program("llm-bench");
    command
        .args(["load-test", "--client-cores", "1", "--tokenizer-id", "r50k_base"])
        .args(["--mean-input-tokens", "60", "--stddev-input-tokens", "5"])
        .args(arguments.split_whitespace())
        .env("OPENAI_API_BASE", base)
        .env("ANTHROPIC_API_BASE", base.trim_end_matches("/v1"))
        .env("HF_HUB_OFFLINE", "1");
    command
}

fn report(results: &Path) -> Value {
    json(&results.join("report.json"))
}

fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What a command said to people.
fn said(done: &Output) -> String {
    format!(
        "{}\n{}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    )
}

/// How many requests ended in each class, and the sum of the classes, which has to be the number of those that were scheduled.
fn assert_balance(report: &Value) {
    let requests = report["requests"].as_object().unwrap();
    let classes = requests.iter().filter(|(name, _)| *name != "scheduled");
    let sum: u64 = classes.map(|(_, count)| count.as_u64().unwrap()).sum();
    assert_eq!(requests["scheduled"], sum, "{requests:?}");
    assert_eq!(requests.len(), 8, "{requests:?}");
}
