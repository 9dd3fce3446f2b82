//! Whether the figures can be believed, and whether they have become worse: the exit status says so.

use std::{path::PathBuf, process::Output, thread, time::Duration};

use mock_llm::Settings;
use serde_json::Value;

use super::{Bench, assert_balance, json, quick, report, said};
use crate::process::{program, run};

#[test]
fn calibrate_measures_the_client_and_nobody_else() {
    let bench = Bench::quick();
    let measured = |more: &[&str]| {
        let mut command =
            bench.command_as_it_is("--model m --num-concurrent-requests 4 --calibrate --allow-invalid");
        command.args(more);
        let done = run(command);
        assert!(done.status.success(), "{}", said(&done));
        String::from_utf8(done.stdout).unwrap()
    };
    assert!(measured(&[]).contains("p99"));
    let calibration: Value = serde_json::from_str(&measured(&["--json"])).unwrap();
    assert!(
        calibration["ttft_error"]["p99_s"].as_f64() > Some(0.0),
        "{calibration}"
    );
    assert!(
        calibration["tokens_per_s_achieved"].as_f64() > Some(0.0),
        "{calibration}"
    );
    assert_eq!(bench.mock.stats().requests, 0);
}

#[test]
fn without_calibration_the_run_itself_bounds_the_error() {
    let bench = Bench::quick();
    let report = bench.report("--model m --max-num-completed-requests 50");
    assert!(report["calibration"].is_null());
    let error = &report["client_error"];
    let known = ["loop_lag_p99_s", "stamp_uncertainty_p99_s"].map(|name| error[name].as_f64().unwrap());
    assert_eq!(
        error["ttft_p99_s"].as_f64(),
        Some(known[0].min(known[1]).max(0.0001)),
        "{error}"
    );
}

/// A client that may have one request in flight cannot keep up with arrivals that come ten times as fast as answers.
fn overloaded(bench: &Bench, more: &str) -> Output {
    let mut command = bench.command_as_it_is(
        "--model m --request-rate 100 --arrival constant --max-in-flight 1 --max-num-completed-requests 30 --no-calibration",
    );
    command
        .args(["--client-cores", "1", "--results-dir"])
        .arg(bench.results());
    command.args(more.split_whitespace());
    run(command)
}

#[test]
fn a_client_that_cannot_keep_up_says_invalid_and_fails() {
    let bench = Bench::new(Settings {
        ttft: Duration::from_millis(100),
        ..quick()
    });
    let done = overloaded(&bench, "");
    let told = said(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(
        told.contains("INVALID") && told.contains("could not send"),
        "{told}"
    );
    let report = report(&bench.results());
    assert_eq!(report["client_error"]["verdict"], "invalid");
    assert_balance(&report);
    assert!(
        report["requests"]["dropped"].as_u64() > Some(0),
        "{}",
        report["requests"]
    );

    let allowed = overloaded(&bench, "--allow-invalid");
    assert_eq!(allowed.status.code(), Some(0), "{}", said(&allowed));
    assert!(said(&allowed).contains("INVALID"), "allowed, not hidden");
}

/// The results of a run against a server with this TTFT, which answers with one token: everything else in its figures follows
/// from the TTFT.
fn with_ttft(millis: u64) -> (Bench, PathBuf) {
    let bench = Bench::new(Settings {
        ttft: Duration::from_millis(millis),
        output_tokens: 1,
        ..quick()
    });
    bench.report("--model m --max-num-completed-requests 100 --num-concurrent-requests 25 --seed 1");
    let results = bench.results();
    (bench, results)
}

#[test]
fn compare_is_a_gate() {
    // Side by side, so that whatever else this machine has to do slows both.
    let after = thread::spawn(|| with_ttft(1000));
    let (_before, fast) = with_ttft(2);
    let (_after, slow) = after.join().unwrap();
    let compare = |a: &PathBuf, b: &PathBuf, more: &[&str]| {
        let mut command = program("llm-bench");
        command
            .arg("compare")
            .arg(a)
            .arg(b)
            .arg("--allow-invalid")
            .args(more);
        run(command)
    };
    let worse = compare(&fast, &slow, &[]);
    let told = said(&worse);
    assert_eq!(worse.status.code(), Some(1), "{told}");
    assert!(told.contains("worse"), "{told}");
    let better = compare(&slow, &fast, &["--json"]);
    assert_eq!(better.status.code(), Some(0), "{}", said(&better));
    assert!(
        serde_json::from_slice::<Value>(&better.stdout)
            .unwrap()
            .is_object()
    );
    let same = compare(&fast, &fast.join("report.json"), &[]);
    assert_eq!(same.status.code(), Some(0), "{}", said(&same));
    let beyond = compare(&fast, &slow, &["--threshold", "100%"]);
    assert_eq!(
        beyond.status.code(),
        Some(1),
        "many times as long: {}",
        said(&beyond)
    );
    let refused = compare(&fast, &slow, &["--threshold", "101%"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
}

#[test]
fn figures_that_are_not_valid_are_not_compared() {
    let bench = Bench::new(Settings {
        ttft: Duration::from_millis(100),
        ..quick()
    });
    overloaded(&bench, "");
    let path = bench.results().join("report.json");
    assert_eq!(json(&path)["client_error"]["verdict"], "invalid");
    let mut command = program("llm-bench");
    command.arg("compare").arg(&path).arg(&path);
    let done = run(command);
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
}
