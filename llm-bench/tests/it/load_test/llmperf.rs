//! LLMPerf's users change one command, and find what they know.

use serde_json::Value;

use super::{Bench, assert_balance, json, json_lines, quick, report, said};
use crate::process::{program, run};

const DISTRIBUTED: [&str; 6] = [
    "inter_token_latency_s",
    "ttft_s",
    "end_to_end_latency_s",
    "request_output_throughput_token_per_s",
    "number_input_tokens",
    "number_output_tokens",
];
const STATISTICS: [&str; 10] = [
    "quantiles_p25",
    "quantiles_p50",
    "quantiles_p75",
    "quantiles_p90",
    "quantiles_p95",
    "quantiles_p99",
    "mean",
    "min",
    "max",
    "stddev",
];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The line of LLMPerf's README for OpenAI-compatible APIs, but for `python token_benchmark_ray.py`.
#[test]
fn the_line_of_llmperfs_readme_writes_llmperfs_files() {
    let bench = Bench::new(mock_llm::Settings {
        output_tokens: 200,
        // So far apart that no busy machine reads the first together with the last.
        itl: std::time::Duration::from_millis(5),
        ..quick()
    });
    let mut command = program("llm-bench");
    command.arg("load-test");
    command.args([
        "--model",
        "meta-llama/Llama-2-7b-chat-hf",
        "--mean-input-tokens",
        "550",
        "--stddev-input-tokens",
        "150",
        "--mean-output-tokens",
        "150",
        "--stddev-output-tokens",
        "10",
        "--max-num-completed-requests",
        "2",
        "--timeout",
        "600",
        "--num-concurrent-requests",
        "1",
        "--results-dir",
        "result_outputs",
        "--llm-api",
        "openai",
        "--additional-sampling-params",
        "{}",
    ]);
    // Not of LLMPerf's: whether this machine is quiet enough is not what is tested here.
    command.arg("--allow-invalid");
    command
        .env("OPENAI_API_KEY", "secret_abcdefg")
        .env("OPENAI_API_BASE", bench.mock.base_url())
        .env("HF_HUB_OFFLINE", "1")
        .current_dir(bench.directory.path());
    let done = run(command);
    assert!(done.status.success(), "{}", said(&done));

    let results = bench.directory.path().join("result_outputs");
    let name = |kind: &str| results.join(format!("meta-llama-Llama-2-7b-chat-hf_550_150_{kind}.json"));
    let summary = json(&name("summary"));
    let mut expected: Vec<String> = [
        "version",
        "name",
        "model",
        "mean_input_tokens",
        "stddev_input_tokens",
        "mean_output_tokens",
        "stddev_output_tokens",
        "num_concurrent_requests",
        "timestamp",
        "results_num_requests_started",
        "results_error_rate",
        "results_number_errors",
        "results_error_code_frequency",
        "results_mean_output_throughput_token_per_s",
        "results_num_completed_requests",
        "results_num_completed_requests_per_min",
    ]
    .map(str::to_owned)
    .into();
    for metric in DISTRIBUTED {
        expected.extend(STATISTICS.map(|statistic| format!("results_{metric}_{statistic}")));
    }
    expected.sort_unstable();
    let mut found = keys(&summary);
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(summary["results_num_completed_requests"], 2);
    assert_eq!(summary["results_error_code_frequency"], "{}");

    let individual = json(&name("individual_responses"));
    let individual = individual.as_array().unwrap();
    assert_eq!(individual.len(), 2);
    for each in individual {
        let mut found = keys(each);
        found.sort_unstable();
        assert_eq!(
            found,
            [
                "end_to_end_latency_s",
                "error_code",
                "error_msg",
                "inter_token_latency_s",
                "number_input_tokens",
                "number_output_tokens",
                "number_total_tokens",
                "request_output_throughput_token_per_s",
                "ttft_s",
            ]
        );
        let (e2e, tokens) = (&each["end_to_end_latency_s"], &each["number_output_tokens"]);
        assert!(
            (100..=200).contains(&tokens.as_u64().unwrap()),
            "as many as were asked for: {each}"
        );
        assert!(e2e.as_f64().unwrap() > each["ttft_s"].as_f64().unwrap(), "{each}");
    }
    let report = report(&results);
    assert_balance(&report);
    assert_eq!(report["requests"]["ok"], 2);
    assert!(report["calibration"].is_object(), "the client measured itself");
    assert_eq!(json_lines(&results.join("requests.jsonl")).len(), 2);
    assert_eq!(json(&results.join("run.json"))["run_id"], report["run_id"]);
}

#[test]
fn labels_and_sampling_parameters_are_in_the_summary_and_errors_are_counted() {
    let bench = Bench::new(mock_llm::Settings {
        errors: mock_llm::ErrorRates {
            internal: 0.5,
            ..Default::default()
        },
        ..quick()
    });
    let report = bench.report(
        "--model m/x --max-num-completed-requests 20 --metadata gpu=H100,team=blue --additional-sampling-params {\"top_p\":0.5}",
    );
    assert_balance(&report);
    let failed = report["requests"]["http_error"].as_u64().unwrap();
    assert!((1..20).contains(&failed), "{failed}");
    let summary = json(&bench.results().join("m-x_60_150_summary.json"));
    assert_eq!(summary["gpu"], "H100");
    assert_eq!(summary["team"], "blue");
    assert_eq!(summary["additional_sampling_params_top_p"], 0.5);
    assert_eq!(summary["results_number_errors"], failed);
    let frequency = summary["results_error_code_frequency"].as_str().unwrap();
    assert!(frequency.contains("500"), "{frequency}");
    let individual = json(&bench.results().join("m-x_60_150_individual_responses.json"));
    let errors = individual
        .as_array()
        .unwrap()
        .iter()
        .filter(|each| each["error_code"] == 500);
    assert_eq!(errors.count() as u64, failed);
}

#[test]
fn without_a_results_directory_nothing_is_written_and_json_goes_to_standard_output() {
    let bench = Bench::quick();
    for empty in [&[][..], &["--results-dir", ""]] {
        let base = bench.mock.base_url();
        let mut command = super::load_test(&base, "--model m --max-num-completed-requests 3 --json");
        command
            .args(["--no-calibration", "--allow-invalid"])
            .args(empty)
            .current_dir(bench.directory.path());
        let done = run(command);
        assert!(done.status.success(), "{}", said(&done));
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(report["requests"]["ok"], 3);
        assert_eq!(report["schema_version"], 1);
    }
    let left: Vec<_> = bench.directory.path().read_dir().unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
