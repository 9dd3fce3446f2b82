//! Wrong usage: exit status 2, and a sentence with what was found and what is expected.

use std::fs;

use super::{Bench, said};
use crate::process::{program, run};

fn assert_refused(command: std::process::Command, expected: &[&str]) {
    let line = format!("{:?}", command.get_args());
    let done = run(command);
    let said = said(&done);
    assert_eq!(done.status.code(), Some(2), "{line}: {said}");
    for text in expected {
        assert!(said.contains(text), "{line}: {text:?} is not in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn arguments_are_refused_with_what_was_found_and_what_is_expected() {
    let bench = Bench::quick();
    let file = |name: &str, text: &str| {
        let path = bench.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (empty, prose) = (file("empty.jsonl", ""), file("prose.jsonl", "no JSON\n"));
    let numbers = file("numbers.jsonl", "{\"prompt\": \"a\"}\n{\"number\": 7}\n");
    let cases: &[(&str, &[&str])] = &[
        ("", &["--model"]),
        (
            "--model m --llm-api sagemaker",
            &["'sagemaker'", "openai", "anthropic", "litellm"],
        ),
        ("--model m --slo ttft", &["--slo", "found ttft", "ttft=0.5"]),
        ("--model m --slo latency=1", &["found latency", "ttft=0.5"]),
        (
            "--model m --metadata gpu",
            &["--metadata", "found gpu", "gpu=H100"],
        ),
        (
            "--model m --num-concurrent-requests 0",
            &["--num-concurrent-requests", "'0'"],
        ),
        ("--model m --request-rate=-1", &["--request-rate", "above 0"]),
        ("--model m --timeout soon", &["--timeout", "'soon'"]),
        (
            "--model m --additional-sampling-params [1]",
            &["expected a JSON object"],
        ),
        (
            "--model m --request-rate 1 --num-concurrent-requests 1",
            &["--request-rate", "--num-concurrent-requests"],
        ),
        (
            "--model m --dataset /nonexistent.jsonl",
            &["/nonexistent.jsonl", "No such file"],
        ),
        (
            "--model m --trace /nonexistent.csv",
            &["/nonexistent.csv", "No such file"],
        ),
        (
            "--model m --publish ftp://host",
            &["found ftp://host", "http://127.0.0.1:8000"],
        ),
        ("--model m --calibrate --no-calibration", &["--calibrate"]),
    ];
    for (arguments, expected) in cases {
        assert_refused(bench.command_as_it_is(arguments), expected);
    }
    for (path, expected) in [(empty, "empty.jsonl"), (prose, "line 1"), (numbers, "line 2")] {
        let command = bench.command_as_it_is(&format!("--model m --dataset {path}"));
        assert_refused(command, &[expected, "expected", "prompt"]);
    }
    assert_eq!(bench.mock.stats().requests, 0);
}

#[test]
fn a_tokenizer_that_is_none_is_refused() {
    let bench = Bench::quick();
    for (id, expected) in [
        ("/nonexistent/tokenizer.json", "is no file here"),
        ("/proc/version", "not a tokenizer.json"),
    ] {
        let mut command = program("llm-bench");
        command
            .args(["load-test", "--model", "m", "--tokenizer-id", id])
            .env("OPENAI_API_BASE", bench.mock.base_url());
        assert_refused(command, &[id, expected]);
    }
}

#[test]
fn without_an_api_it_is_said_which_variables_are_missing() {
    for (api, variable) in [
        ("openai", "OPENAI_API"),
        ("litellm", "OPENAI_API"),
        ("anthropic", "ANTHROPIC_API"),
    ] {
        let mut command = program("llm-bench");
        command.args(["load-test", "--model", "m", "--llm-api", api]);
        assert_refused(
            command,
            &[
                &format!("{variable}_KEY"),
                &format!("{variable}_BASE"),
                "found nothing",
            ],
        );
    }
    let mut command = program("llm-bench");
    command
        .args(["load-test", "--model", "m"])
        .env("OPENAI_API_BASE", "localhost:8000");
    assert_refused(command, &["localhost:8000", "https://host:8000/v1"]);
}

#[test]
fn directories_and_reports_that_are_none_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut publish = program("llm-bench");
    publish
        .arg("publish")
        .arg(directory.path())
        .env("DATA_DIR", directory.path());
    assert_refused(publish, &["RESULTS_DIR", "run.json", "expected"]);

    let path = directory.path().join("report.json");
    fs::write(&path, "{}").unwrap();
    for (given, found) in [
        ("/nonexistent", "No such file"),
        (path.to_str().unwrap(), "schema_version"),
    ] {
        let mut compare = program("llm-bench");
        compare.args(["compare", given, given]);
        assert_refused(compare, &[given, found, "expected"]);
    }
}

#[test]
fn more_streams_than_files_may_be_open_are_refused_before_the_first_is_opened() {
    let bench = Bench::quick();
    let line = bench.command("--model m --num-concurrent-requests 500");
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -n 300; exec \"$0\" \"$@\""])
        .arg(line.get_program())
        .args(line.get_args())
        .env_clear()
        .envs(line.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = run(command);
    let said = said(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(
        said.contains("500 concurrent streams") && said.contains("300") && said.contains("ulimit"),
        "{said}"
    );
    assert_eq!(bench.mock.stats().connections, 0);
}

/// Variables of others that resemble ones that are read here are no mistake of anybody's.
#[test]
fn others_variables_do_not_stop_a_command() {
    let bench = Bench::quick();
    let mut command = bench.command("--model m --max-num-completed-requests 1");
    for name in [
        "OPENAI_BASE_URL",
        "OPENAI_API_KEYS",
        "HF_HOME",
        "HF_TOKENS",
        "MLFLOW_TRACKING_URL",
        "ANTHROPIC_API_BASES",
    ] {
        command.env(name, "/nonexistent");
    }
    let done = run(command);
    assert!(done.status.success(), "{}", said(&done));
}
