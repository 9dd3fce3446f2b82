//! Runs that do not reach their end.

use std::{path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use test_patience::until;

use super::{
    Bench, assert_balance, json_lines,
    measured::{assert_published, measured},
    published::serving,
    report, said,
};
use crate::process::{Process, program, run};

const LONG: &str = "--model mine --duration 600 --num-concurrent-requests 8 --distinct-prompts 8 --publish";

/// A server whose answers are so short that many of them are soon measured.
fn brief() -> Bench {
    Bench::new(mock_llm::Settings {
        ttft: Duration::ZERO,
        itl: Duration::ZERO,
        output_tokens: 2,
        ..super::quick()
    })
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.matches('\n').count())
}

/// How many cuts have been written down, and how many requests are in them. The last line may be half written.
fn cuts(results: &Path) -> (usize, u64) {
    let text = std::fs::read_to_string(results.join("published.jsonl")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let last = whole.lines().last().map_or(0, |line| {
        let cut: Value = serde_json::from_str(line).unwrap();
        cut["portion"]["to"].as_u64().unwrap()
    });
    (whole.lines().count(), last)
}

#[tokio::test]
async fn after_kill_9_exactly_what_was_measured_can_be_published() {
    let bench = brief();
    let results = bench.results();
    let process = Process::start(bench.command(LONG));
    until("something is published, and more is measured", async || {
        let (cuts, published) = cuts(&results);
        cuts >= 2 && lines(&results.join("requests.jsonl")) as u64 > published
    })
    .await;
    process.crash();
    assert!(
        !results.join("report.json").exists(),
        "it was killed in the middle"
    );
    assert!(!measured(&results)["ttft"].is_empty());

    let again = || {
        let mut command = program("llm-bench");
        command.arg("publish").arg(&results).env("DATA_DIR", bench.data());
        let done = run(command);
        assert!(done.status.success(), "{}", said(&done));
    };
    again();
    let (process, api) = serving(&bench.data(), false);
    assert_published(&api, &results, &[]).await;
    process.stop();
    again();
    let (process, api) = serving(&bench.data(), false);
    assert_published(&api, &results, &[]).await;
    process.stop();
}

#[tokio::test]
async fn ctrl_c_keeps_and_publishes_what_was_measured() {
    let bench = brief();
    let results = bench.results();
    let mut process = Process::start(bench.command(LONG));
    until("the run is under way", async || {
        lines(&results.join("requests.jsonl")) > 100
    })
    .await;
    process.signal(Signal::SIGINT);
    assert_eq!(process.ended().code(), Some(0));

    let report = report(&results);
    assert_eq!(report["interrupted"], true);
    assert_balance(&report);
    let written = json_lines(&results.join("requests.jsonl")).len();
    assert_eq!(report["requests"]["scheduled"], written);
    let (process, api) = serving(&bench.data(), false);
    assert_published(&api, &results, &[]).await;
    process.stop();
}

#[tokio::test]
async fn ctrl_c_cancels_what_is_in_flight() {
    let bench = Bench::new(mock_llm::Settings {
        ttft: Duration::from_secs(300),
        ..super::quick()
    });
    let mut process = Process::start(bench.command("--model m --num-concurrent-requests 3"));
    until("all are in flight", async || bench.mock.stats().requests >= 3).await;
    process.signal(Signal::SIGINT);
    assert_eq!(process.ended().code(), Some(1), "there are no figures");
    let report = report(&bench.results());
    assert_balance(&report);
    assert_eq!(report["requests"]["cancelled"], 3, "{}", report["requests"]);
}
