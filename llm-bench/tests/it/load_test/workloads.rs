//! Workloads, APIs and loads through the command.

use std::{fs, thread, time::Duration};

use mock_llm::{Settings, Stall};
use serde_json::Value;

use super::{Bench, assert_balance, json, json_lines, quick};

#[test]
fn correctness_counts_the_answers_that_do_not_hold_the_number() {
    for (wrong_numbers, expected) in [(0.0, 0..=0), (0.5, 1..=39), (1.0, 40..=40)] {
        let bench = Bench::new(Settings {
            wrong_numbers,
            output_tokens: 64,
            ..quick()
        });
        bench.report("--model m --correctness --max-num-completed-requests 40");
        let summary = json(&bench.results().join("m_correctness_summary.json"));
        let mismatched = summary["num_mismatched_requests"].as_u64().unwrap();
        assert!(expected.contains(&mismatched), "{wrong_numbers}: {summary}");
        assert_eq!(summary["num_completed_requests"], 40);
        assert_eq!(summary["num_non_errored_requests"], 40);
        assert_eq!(summary["number_errors"], 0);
        assert_eq!(summary["error_rate"], 0.0);
        assert_eq!(
            summary["mismatch_rate"].as_f64().unwrap(),
            mismatched as f64 / 40.0
        );
        let individual = json(&bench.results().join("m_correctness_individual_responses.json"));
        assert_eq!(individual.as_array().unwrap().len(), 40);
    }
}

#[test]
fn every_api_is_spoken_streaming_and_not() {
    for api in ["openai", "openai-completions", "anthropic", "litellm"] {
        for stream in ["", "--no-stream"] {
            let bench = Bench::new(Settings {
                api_key: Some("a-key".into()),
                ..quick()
            });
            let mut command = bench.command(
                "--model m --max-num-completed-requests 5 --mean-output-tokens 8 --stddev-output-tokens 0",
            );
            command
                .args(["--llm-api", api])
                .args(stream.split_whitespace())
                .env("OPENAI_API_KEY", "a-key")
                .env("ANTHROPIC_API_KEY", "a-key");
            let done = crate::process::run(command);
            assert!(done.status.success(), "{api} {stream}: {}", super::said(&done));
            let report = super::report(&bench.results());
            assert_balance(&report);
            assert_eq!(report["requests"]["ok"], 5, "{api} {stream}");
            assert_eq!(report["output_tokens"]["mean"], 8.0, "{api} {stream}");
            for line in json_lines(&bench.results().join("requests.jsonl")) {
                let expected = if stream.is_empty() { 8 } else { 1 };
                assert_eq!(line["chunks"], expected, "{api} {stream}: {line}");
            }
        }
    }
}

#[test]
fn answers_without_usage_are_counted_after_the_run() {
    let bench = Bench::new(Settings {
        usage: false,
        ..quick()
    });
    let report = bench.report("--model m --max-num-completed-requests 10");
    assert_eq!(report["tps"]["n"], 10);
    for line in json_lines(&bench.results().join("requests.jsonl")) {
        assert!(line["server_output_tokens"].is_null(), "{line}");
        assert!(line["client_output_tokens"].as_u64() > Some(0), "{line}");
    }
}

#[test]
fn own_prompts_are_asked_in_their_order() {
    let bench = Bench::quick();
    let path = bench.directory.path().join("prompts.jsonl");
    let lines = [
        r#"{"prompt": "one", "max_tokens": 3}"#,
        r#"{"messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "one two three"}], "max_tokens": 4}"#,
        r#"{"conversations": [{"from": "human", "value": "one two"}, {"from": "gpt", "value": "three"}]}"#,
    ];
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    let report = bench.report(&format!(
        "--model m --dataset {} --max-num-completed-requests 4 --num-concurrent-requests 1",
        path.display()
    ));
    assert_eq!(report["requests"]["ok"], 4);
    assert_eq!(report["workload"]["workload"]["kind"], "dataset");
    let mut written = json_lines(&bench.results().join("requests.jsonl"));
    written.sort_by_key(|line| line["index"].as_u64());
    let tokens: Vec<_> = written
        .iter()
        .map(|line| line["server_output_tokens"].as_u64().unwrap())
        .collect();
    assert_eq!(
        (tokens[0], tokens[1], tokens[3]),
        (3, 4, 3),
        "the fourth repeats the first"
    );
}

#[test]
fn a_trace_is_replayed_at_its_times_and_lengths() {
    let bench = Bench::quick();
    let path = bench.directory.path().join("trace.jsonl");
    let rows = [(0, 30, 2), (200, 50, 3), (600, 40, 4)];
    let line = |(at, input, output)| {
        format!(
            r#"{{"timestamp": {at}, "input_length": {input}, "output_length": {output}, "hash_ids": [{at}]}}"#
        )
    };
    fs::write(&path, rows.map(line).join("\n") + "\n").unwrap();
    let report = bench.report(&format!("--model m --trace {} --trace-speed 2", path.display()));
    assert_eq!(report["requests"]["ok"], 3);
    let mut written = json_lines(&bench.results().join("requests.jsonl"));
    written.sort_by_key(|line| line["index"].as_u64());
    let millis = |line: &Value| (line["intended_s"].as_f64().unwrap() * 1e3).round();
    let first = millis(&written[0]);
    for (line, (at, input, output)) in written.iter().zip(rows) {
        assert_eq!(line["prompt_tokens"], input, "{line}");
        assert_eq!(line["server_output_tokens"], output, "{line}");
        assert!(
            (millis(line) - first - f64::from(at) / 2.0).abs() <= 1.0,
            "twice as fast: {line}"
        );
    }
}

#[test]
fn the_same_seed_asks_the_same() {
    let lengths = |seed: &str| {
        let bench = Bench::quick();
        bench.report(&format!(
            "--model m --max-num-completed-requests 10 --seed {seed}"
        ));
        let mut written = json_lines(&bench.results().join("requests.jsonl"));
        written.sort_by_key(|line| line["index"].as_u64());
        written
            .iter()
            .map(|line| line["prompt_tokens"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let (first, second, other) = (lengths("7"), lengths("7"), lengths("8"));
    assert_eq!(first, second);
    assert_ne!(first, other);
}

/// Half of the time the server writes nothing. The report, and how many requests waited for more than half of a stall.
fn of_a_stalling_server(load: &str) -> (Value, usize) {
    let bench = Bench::new(Settings {
        stall: Some(Stall {
            every: Duration::from_secs(2),
            lasts: Duration::from_secs(1),
        }),
        ..quick()
    });
    let report = bench.report(&format!(
        "--model m --duration 6 --distinct-prompts 10 --mean-output-tokens 2 --stddev-output-tokens 0 {load}"
    ));
    let lines = json_lines(&bench.results().join("requests.jsonl"));
    let long = |line: &&Value| {
        let seconds = |field: &str| line[field].as_f64().unwrap();
        seconds("first_content_s") - seconds("intended_s") > 0.5
    };
    (report, lines.iter().filter(long).count())
}

/// Coordinated omission: a closed loop asks nothing while the server stalls, so only one request in each stall shows it. Arrivals
/// that do not wait for the server show that users wait.
#[test]
fn a_stall_shows_under_an_open_loop() {
    let closed = thread::spawn(|| of_a_stalling_server("--num-concurrent-requests 1"));
    let (open, waited) = of_a_stalling_server("--request-rate 200 --arrival constant");
    let (_, omitted) = closed.join().unwrap();
    assert_balance(&open);
    let p = |quantile: &str| open["ttft_from_intended_s"][quantile].as_f64().unwrap();
    assert!(p("p99") > 0.8, "{}", open["ttft_from_intended_s"]);
    assert!(p("p90") > 0.5, "{}", open["ttft_from_intended_s"]);
    assert!(
        waited > 10 * omitted,
        "or there was no omission to show: {waited} and {omitted} waited"
    );
    assert_eq!(open["requests"]["dropped"], 0);
}
