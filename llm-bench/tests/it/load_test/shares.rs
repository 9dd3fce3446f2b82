//! `--share` and `merge`: a run of several machines, here of several processes.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use chrono::{DateTime, Utc};
use nix::sys::signal::Signal;
use serde_json::Value;
use shared_types::{Clock, SystemClock};
use test_patience::{patience, until};

use super::{
    Bench, assert_balance, json, json_lines, load_test, measured::assert_published, published::serving,
    report, said,
};
use crate::process::{Process, program, run};

const RUN: &str =
    "--model mine --seed 7 --max-num-completed-requests 41 --num-concurrent-requests 6 --warmup-requests 3";

fn share_dir(bench: &Bench, share: &str) -> PathBuf {
    bench.directory.path().join(share.replace('/', "-of-"))
}

/// One share of a run, with a results directory of its own.
fn share(bench: &Bench, arguments: &str, share: &str) -> Command {
    let mut command = load_test(&bench.mock.base_url(), arguments);
    command
        .args([
            "--no-calibration",
            "--allow-invalid",
            "--share",
            share,
            "--results-dir",
        ])
        .arg(share_dir(bench, share));
    command
}

/// Carries out these shares, all at the same time; gives their directories.
fn carried_out<const N: usize>(bench: &Bench, arguments: &str, shares: [&str; N]) -> [PathBuf; N] {
    let processes = shares.map(|name| Process::start(share(bench, arguments, name)));
    for mut process in processes {
        assert_eq!(process.ended().code(), Some(0));
    }
    shares.map(|name| share_dir(bench, name))
}

fn merge(bench: &Bench, directories: &[PathBuf], arguments: &str) -> Output {
    let mut command = program("llm-bench");
    command
        .arg("merge")
        .args(directories)
        .args(arguments.split_whitespace())
        .env("DATA_DIR", bench.data());
    run(command)
}

fn merge_into(bench: &Bench, directories: &[PathBuf], results: &Path, arguments: &str) -> Output {
    let results = results.display();
    merge(
        bench,
        directories,
        &format!("{arguments} --results-dir {results}"),
    )
}

fn file_names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn three_shares_are_one_run_that_is_published_once() {
    let bench = Bench::quick();
    let directories = carried_out(&bench, RUN, ["0/3", "1/3", "2/3"]);
    assert_eq!(bench.mock.stats().requests, 41);
    let own: Vec<_> = directories.iter().map(|directory| report(directory)).collect();
    assert!(
        own.iter()
            .all(|report| report["requests"]["ok"].as_u64() >= Some(12))
    );

    let done = merge_into(
        &bench,
        &directories,
        &bench.results(),
        "--allow-invalid --publish",
    );
    assert!(done.status.success(), "{}", said(&done));
    assert!(
        said(&done).contains("llm-bench rankings --source measured"),
        "{}",
        said(&done)
    );
    let merged = report(&bench.results());
    assert_balance(&merged);
    assert_eq!(
        (
            &merged["requests"]["scheduled"],
            &merged["requests"]["ok"],
            &merged["warmup_requests"]
        ),
        (&38.into(), &38.into(), &3.into())
    );
    let shares = merged["shares"].as_array().unwrap();
    let ok: Vec<_> = shares
        .iter()
        .map(|share| share["requests"]["ok"].as_u64().unwrap())
        .collect();
    assert_eq!(ok, [13, 13, 12], "of 14, 14 and 13, less one each to warm up");
    let names = ["0/3", "1/3", "2/3"].map(Value::from);
    assert!(shares.iter().map(|share| &share["share"]).eq(&names));
    let indices = |directory: &Path| -> Vec<u64> {
        let lines = json_lines(&directory.join("requests.jsonl"));
        let mut indices: Vec<_> = lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
        indices.sort_unstable();
        indices
    };
    assert_eq!(indices(&bench.results()), (0..41).collect::<Vec<_>>());
    assert_eq!(
        indices(&directories[1]),
        (0..14).map(|own| own * 3 + 1).collect::<Vec<_>>()
    );
    assert_eq!(
        file_names(&bench.results()),
        [
            "mine_60_150_individual_responses.json",
            "mine_60_150_summary.json",
            "published.jsonl",
            "report.html",
            "report.json",
            "requests.jsonl",
            "run.json",
        ]
    );
    let summary = json(&bench.results().join("mine_60_150_summary.json"));
    assert_eq!(summary["results_num_completed_requests"], 38);
    let (process, api) = serving(&bench.data(), false);
    assert_published(&api, &bench.results(), &[]).await;
    let batches = api.batches().await.len();
    process.stop();

    // Again: into the same directory, into another one, with the shares in another order, and by `publish`.
    let mut reversed = directories.clone();
    reversed.reverse();
    let elsewhere = bench.directory.path().join("elsewhere");
    for (directories, results) in [
        (&directories, bench.results()),
        (&reversed, elsewhere.clone()),
        (&directories, elsewhere.clone()),
    ] {
        let done = merge_into(&bench, directories, &results, "--allow-invalid --publish");
        assert!(done.status.success(), "{}", said(&done));
    }
    let mut publish = program("llm-bench");
    publish
        .arg("publish")
        .arg(&elsewhere)
        .env("DATA_DIR", bench.data());
    let done = run(publish);
    assert!(done.status.success(), "{}", said(&done));
    let (process, api) = serving(&bench.data(), false);
    assert_published(&api, &bench.results(), &[]).await;
    assert_eq!(api.batches().await.len(), batches, "a repetition changes nothing");
    process.stop();
}

#[test]
fn without_a_results_directory_the_report_is_shown() {
    let bench = Bench::quick();
    let open = "--model mine --seed 7 --max-num-completed-requests 40 --request-rate 200 --arrival gamma";
    let directories = carried_out(&bench, open, ["0/2", "1/2"]);
    let done = merge(&bench, &directories, "--json --allow-invalid");
    assert!(done.status.success(), "{}", said(&done));
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(report["requests"]["ok"], 40);
    let ids = ["--run-id a", "--run-id a", "--run-id b"].map(|name| {
        let done = merge(&bench, &directories, &format!("--json --allow-invalid {name}"));
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        report["run_id"].as_str().unwrap().to_owned()
    });
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    // The exit status says whether the figures are valid: it depends on this machine's clock and on its load.
    let judged = merge(&bench, &directories, "");
    let is_valid = report["client_error"]["verdict"] == "valid";
    assert_eq!(
        judged.status.code(),
        Some(i32::from(!is_valid)),
        "{}",
        said(&judged)
    );
    let last = String::from_utf8(judged.stdout).unwrap();
    let last = last.lines().last().unwrap();
    assert_eq!(last.ends_with(", VALID"), is_valid, "{last}");
}

#[tokio::test]
async fn a_share_that_was_killed_is_missing() {
    let bench = Bench::quick();
    let endless = "--model mine --seed 7 --duration 600 --num-concurrent-requests 2 --distinct-prompts 8";
    let [killed, stopped] = ["0/2", "1/2"].map(|name| Process::start(share(&bench, endless, name)));
    let lines = |name: &str| {
        let path = share_dir(&bench, name).join("requests.jsonl");
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    };
    until("both have sent", async || lines("0/2") > 10 && lines("1/2") > 10).await;
    killed.crash();
    let mut stopped = stopped;
    stopped.signal(Signal::SIGINT);
    assert_eq!(stopped.ended().code(), Some(0));
    let directories = ["0/2", "1/2"].map(|name| share_dir(&bench, name));

    let refused = merge(&bench, &directories, "");
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("share.json: expected the file that a share of a run writes"));

    let done = merge_into(
        &bench,
        &directories[1..],
        &bench.results(),
        "--allow-invalid --publish",
    );
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    let text = said(&done);
    assert!(
        text.contains("INVALID: ") && text.contains("Share 0/2 is missing in all figures."),
        "{text}"
    );
    assert!(text.contains("nothing was published"), "{text}");
    assert!(
        !bench.results().join("run.json").exists(),
        "it is no run that could be published"
    );
    let report = report(&bench.results());
    assert_balance(&report);
    assert_eq!(
        (&report["interrupted"], &report["shares"][0]["share"]),
        (&true.into(), &"1/2".into())
    );

    for directory in &directories {
        let mut publish = program("llm-bench");
        publish
            .arg("publish")
            .arg(directory)
            .env("DATA_DIR", bench.data());
        let refused = run(publish);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(
            said(&refused).contains("`llm-bench merge --publish`"),
            "{}",
            said(&refused)
        );
    }
    assert!(!bench.data().exists(), "nothing was published");
}

#[test]
fn what_is_no_share_of_the_run_is_refused_or_named() {
    let bench = Bench::quick();
    let directories = carried_out(&bench, RUN, ["0/2"]);
    let other = carried_out(&bench, &RUN.replace("--seed 7", "--seed 8"), ["1/2"]);
    let both = [directories[0].clone(), other[0].clone()];
    let done = merge(&bench, &both, "--allow-invalid");
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(
        said(&done).contains("1-of-2 is a share of another run and is left out: found a plan with digest")
    );
    let twice = [directories[0].clone(), directories[0].clone()];
    assert!(said(&merge(&bench, &twice, "")).contains("Share 0/2 is there twice"));

    let over_a_share = merge_into(&bench, &both, &both[0], "");
    assert_eq!(over_a_share.status.code(), Some(2), "{}", said(&over_a_share));
    assert!(both[0].join("share.json").exists());

    // A run that begins in the same directory is another one: what the share before it left must not pass for its own.
    let mut whole = load_test(
        &bench.mock.base_url(),
        "--model mine --no-calibration --allow-invalid",
    );
    whole.arg("--results-dir").arg(&both[0]);
    assert!(run(whole).status.success());
    assert!(!both[0].join("share.json").exists());
}

#[test]
fn what_a_share_cannot_do_alone_is_refused() {
    let bench = Bench::quick();
    for (arguments, expected) in [
        ("--share 0/2 --seed 1 --publish", "`llm-bench merge --publish`"),
        (
            "--share 0/2 --seed 1 --correctness",
            "the answers of shares are not merged",
        ),
        (
            "--share 0/2 --seed 1 --calibrate",
            "--calibrate: found --share 0/2 beside it",
        ),
        ("--share 0/2", "--seed"),
        ("--share 2/2 --seed 1", "such as 0/3, 1/3 and 2/3"),
        ("--share 0/11 --seed 1", "11 shares of 10 concurrent requests"),
        ("--share 0/2 --seed 1 --start-at soon", "2026-11-22T12:00:00Z"),
        (
            "--share 0/2 --seed 1 --start-at 2001-01-01T00:00:00Z",
            "which has passed",
        ),
        ("--start-at 2101-01-01T00:00:00Z", "--share"),
    ] {
        let mut command = bench.command_as_it_is(&format!("--model m {arguments}"));
        command.arg("--results-dir").arg(bench.results());
        let done = run(command);
        assert_eq!(done.status.code(), Some(2), "{arguments}: {}", said(&done));
        assert!(said(&done).contains(expected), "{arguments}: {}", said(&done));
    }
    let done = run(bench.command_as_it_is("--model m --share 0/2 --seed 1"));
    assert!(said(&done).contains("--results-dir"), "{}", said(&done));
    let mut tracked = bench.command("--model m --share 0/2 --seed 1 --ml-repo r");
    tracked.env("MLFLOW_TRACKING_URI", "http://127.0.0.1:1");
    let done = run(tracked);
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    assert!(
        said(&done).contains("--ml-repo: found --share 0/2 beside it"),
        "{}",
        said(&done)
    );
    assert_eq!(bench.mock.stats().requests, 0);
}

/// A machine that is too slow to be ready in time says so; it is given more.
#[test]
fn a_share_begins_when_it_is_told_to() {
    let bench = Bench::quick();
    let mut lead = Duration::from_secs(3);
    let start_at = loop {
        let start_at = SystemClock.now() + lead;
        let mut command = share(&bench, RUN, "0/1");
        command.args(["--start-at", &start_at.to_rfc3339()]);
        let done = run(command);
        if done.status.success() {
            break start_at;
        }
        assert!(
            said(&done).contains("which has passed") && lead < patience(),
            "{}",
            said(&done)
        );
        lead *= 2;
    };
    let file = json(&share_dir(&bench, "0/1").join("share.json"));
    let started_at: DateTime<Utc> = file["started_at"].as_str().unwrap().parse().unwrap();
    assert!(started_at >= start_at, "{started_at} is before {start_at}");
}
