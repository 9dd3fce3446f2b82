use serde_json::json;

use super::*;
use crate::report::fixtures::{at, plan, record, refused};

/// Three answers of 5, 6 and 8 tokens, a refusal and a timeout.
fn run() -> Vec<RequestRecord> {
    let answered = |index, tokens: u32| RequestRecord {
        server_output_tokens: Some(tokens),
        prompt_tokens: 540 + tokens,
        last_content: Some(at(index * 100 + 210 + 20 * u64::from(tokens - 1))),
        closed: at(index * 100 + 215 + 20 * u64::from(tokens - 1)),
        ..record(index)
    };
    let timed_out = RequestRecord {
        class: Class::TimedOut,
        server_output_tokens: None,
        ..record(4)
    };
    vec![
        answered(0, 5),
        answered(1, 8),
        answered(2, 6),
        refused(3, 429),
        timed_out,
    ]
}

fn message(index: u64) -> Option<&'static str> {
    (index == 3).then_some("slow down")
}

fn parsed(file: &ResultFile) -> Value {
    serde_json::from_str(&file.content).unwrap()
}

fn run_files(records: &[RequestRecord]) -> [ResultFile; 2] {
    let mut plan = plan();
    plan.sampling = json!({ "temperature": 0.5, "stop": { "at": ["\n"], "never": {} } })
        .as_object()
        .unwrap()
        .clone();
    files(&Parameters::of(&plan, records, 1_795_348_800), records, message)
}

#[test]
fn the_two_files() {
    let [summary, individual] = run_files(&run());
    assert_eq!(summary.name, "meta-llama-Llama-3-1-8B_550_150_summary.json");
    assert_eq!(
        individual.name,
        "meta-llama-Llama-3-1-8B_550_150_individual_responses.json"
    );
    insta::assert_snapshot!("summary", summary.content);
    insta::assert_snapshot!("individual_responses", individual.content);
}

#[test]
fn the_figures_are_those_that_pandas_computes() {
    // pandas.Series([5, 6, 8]): quantile(.25) = 5.5, quantile(.9) = 7.6, mean = 19/3, std = 1.5275252316519468
    let summary = parsed(&run_files(&run())[0]);
    let figure = |key: &str| summary[format!("results_number_output_tokens_{key}")].clone();
    assert_eq!(
        (figure("quantiles_p25"), figure("quantiles_p50")),
        (json!(5.5), json!(6.0))
    );
    assert!((figure("quantiles_p90").as_f64().unwrap() - 7.6).abs() < 1e-12);
    assert_eq!(figure("mean"), json!(19.0 / 3.0));
    assert!((figure("stddev").as_f64().unwrap() - 1.527_525_231_651_946_8).abs() < 1e-12);
    assert_eq!((figure("min"), figure("max")), (json!("5"), json!("8")));
    // From 0 to 691 ms: the timeout's end.
    assert_eq!(
        summary["results_mean_output_throughput_token_per_s"],
        json!(19.0 / 0.691)
    );
    assert_eq!(summary["results_error_rate"], json!(0.4));
}

#[test]
fn the_inter_token_latency_is_theirs() {
    let individual = parsed(&run_files(&run())[1]);
    // 200 ms to the first token and four gaps of 20 ms over five tokens.
    assert_eq!(individual[0]["inter_token_latency_s"], json!(0.28 / 5.0));
    assert_eq!(individual[0]["end_to_end_latency_s"], json!(0.285));
}

#[test]
fn without_answers_figures_are_null_and_json() {
    let [summary, individual] = run_files(&[refused(0, 500), refused(1, 503), refused(2, 503)]);
    let summary = parsed(&summary);
    for key in ["mean", "min", "stddev", "quantiles_p99"] {
        assert_eq!(summary[format!("results_ttft_s_{key}")], Value::Null);
    }
    assert_eq!(summary["results_error_code_frequency"], "{503: 2, 500: 1}");
    assert_eq!(summary["results_num_completed_requests_per_min"], json!(0.0));
    assert_eq!(parsed(&individual)[0]["ttft_s"], json!(0.0));
}

#[test]
fn a_run_of_nothing_has_files_too() {
    let [summary, individual] = run_files(&[]);
    let summary = parsed(&summary);
    assert_eq!(summary["results_error_rate"], json!(0.0));
    assert_eq!(summary["results_error_code_frequency"], "{}");
    assert_eq!(summary["results_mean_output_throughput_token_per_s"], Value::Null);
    assert_eq!(individual.content, "[]");
}

#[test]
fn metadata_goes_last_and_overrides() {
    let mut plan = plan();
    plan.metadata = BTreeMap::from([
        ("model".to_owned(), "renamed".to_owned()),
        ("zone".to_owned(), "a".to_owned()),
    ]);
    let [summary, _] = files(&Parameters::of(&plan, &[], 7), &[], |_| None);
    let keys: Vec<_> = summary
        .content
        .lines()
        .filter_map(|line| line.trim().split('"').nth(1))
        .collect();
    assert_eq!(keys[..3], ["version", "name", "model"]);
    assert_eq!(keys[keys.len() - 2..], ["zone", "timestamp"]);
    assert_eq!(parsed(&summary)["model"], "renamed");
}

#[test]
fn file_names_are_those_of_the_two_regular_expressions() {
    for (name, expected) in [
        ("gpt-4o_550_150", "gpt-4o_550_150"),
        ("a//b::c_1_2", "a-b-c_1_2"),
        ("a-/-b--c_1_2", "a-b-c_1_2"),
        ("modèle 7B_1_2", "modèle-7B_1_2"),
    ] {
        assert_eq!(file_stem(name), expected);
    }
}

#[test]
fn lengths_of_a_trace_are_those_of_its_requests() {
    let mut plan = plan();
    plan.workload = Workload::Trace {
        path: "t.jsonl".into(),
    };
    let parameters = Parameters::of(&plan, &run(), 0);
    assert_eq!(
        (parameters.input_tokens.mean, parameters.output_tokens.mean),
        (548.0, 6.0)
    );
}

#[test]
fn the_correctness_files() {
    let (passed, wrong, failed) = (record(0), record(1), refused(2, 500));
    let answer = |record, text, passed| CorrectnessAnswer {
        record,
        error: None,
        prompt: "Convert the following sequence of words into a number: forty-two.\nPrint the number first.",
        expected: 42,
        text,
        passed,
    };
    let parameters = CorrectnessParameters {
        model: "org/model".to_owned(),
        num_concurrent_requests: Some(10),
        sampling: Map::new(),
        llm_api: "openai".to_owned(),
        metadata: BTreeMap::new(),
        timestamp_s: 1_795_348_800,
    };
    let answers = [
        answer(&passed, "42", true),
        answer(&wrong, "24", false),
        answer(&failed, "", false),
    ];
    let [summary, individual] = correctness_files(&parameters, &answers);
    assert_eq!(summary.name, "org-model_correctness_summary.json");
    assert_eq!(individual.name, "org-model_correctness_individual_responses.json");
    insta::assert_snapshot!("correctness_summary", summary.content);
    insta::assert_snapshot!("correctness_individual_responses", individual.content);

    let nothing = parsed(&correctness_files(&parameters, &[])[0]);
    assert_eq!(
        (&nothing["error_rate"], &nothing["mismatch_rate"]),
        (&Value::Null, &Value::Null)
    );
}
