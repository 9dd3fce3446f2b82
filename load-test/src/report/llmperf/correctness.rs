//! The files of LLMPerf's correctness test.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{RESULTS_VERSION, Response, ResultFile, file_stem, json_file, object::Object};
use crate::record::RequestRecord;

/// The command-line parameters of LLMPerf's correctness test.
#[derive(Debug, Clone, PartialEq)]
pub struct CorrectnessParameters {
    /// The model.
    pub model: String,
    /// Number of streams.
    pub num_concurrent_requests: Option<u32>,
    /// The user's sampling parameters.
    pub sampling: Map<String, Value>,
    /// LLMPerf's name of the API (`openai`).
    pub llm_api: String,
    /// The user's labels.
    pub metadata: BTreeMap<String, String>,
    /// When the files are written, seconds since 1970.
    pub timestamp_s: i64,
}

/// A number that was asked for, and the answer.
#[derive(Debug, Clone, Copy)]
pub struct CorrectnessAnswer<'a> {
    /// The request.
    pub record: &'a RequestRecord,
    /// Its error message.
    pub error: Option<&'a str>,
    /// The prompt.
    pub prompt: &'a str,
    /// The correct number.
    pub expected: u32,
    /// The answer; empty where none was received.
    pub text: &'a str,
    /// Whether the answer contains the number; ignored where the request failed.
    pub passed: bool,
}

#[derive(Serialize)]
struct Individual<'a> {
    metrics: Response,
    generated_text: &'a str,
    request_config: RequestConfig<'a>,
}

#[derive(Serialize)]
struct RequestConfig<'a> {
    model: &'a str,
    prompt: (&'a str, u32),
    sampling_params: Map<String, Value>,
    llm_api: &'a str,
    metadata: Value,
}

/// `{model}_correctness_summary.json` and `{model}_correctness_individual_responses.json`. A rate over no request is null,
/// where LLMPerf divides by zero.
#[must_use]
pub fn correctness_files(
    parameters: &CorrectnessParameters,
    answers: &[CorrectnessAnswer<'_>],
) -> [ResultFile; 2] {
    let stem = file_stem(&format!("{}_correctness", parameters.model));
    let mut sampling = Map::from_iter([("temperature".to_owned(), json!(0.0))]);
    sampling.extend(parameters.sampling.clone());
    let individual: Vec<_> = answers
        .iter()
        .map(|answer| Individual {
            metrics: Response::new(answer.record, answer.error),
            generated_text: answer.text,
            request_config: RequestConfig {
                model: &parameters.model,
                prompt: (answer.prompt, 0),
                sampling_params: sampling.clone(),
                llm_api: &parameters.llm_api,
                metadata: json!({ "rnd_number": answer.expected }),
            },
        })
        .collect();
    let name = format!("{stem}_summary");
    let failed = |individual: &&Individual<'_>| individual.metrics.error_code.is_some();
    let errors = individual.iter().filter(failed).count();
    let mismatched = individual
        .iter()
        .zip(answers)
        .filter(|(individual, answer)| !failed(individual) && !answer.passed)
        .count();
    let summary = summary(&name, parameters, answers.len(), errors, mismatched);
    [
        json_file(name, &summary),
        json_file(format!("{stem}_individual_responses"), &individual),
    ]
}

fn summary(
    name: &str,
    parameters: &CorrectnessParameters,
    completed: usize,
    errors: usize,
    mismatched: usize,
) -> Object {
    let rate = |count: usize| (completed > 0).then(|| count as f64 / completed as f64);
    let mut object = Object::default();
    object.set("version", RESULTS_VERSION);
    object.set("name", name);
    object.set("number_errors", errors);
    object.set("num_mismatched_requests", mismatched);
    object.set("error_rate", rate(errors));
    object.set("mismatch_rate", rate(mismatched));
    object.set("num_completed_requests", completed);
    object.set("num_non_errored_requests", completed - errors);
    object.set("model", parameters.model.as_str());
    object.set("num_concurrent_requests", parameters.num_concurrent_requests);
    object.set_flattened("additional_sampling_params", &parameters.sampling);
    object.set("llm_api", parameters.llm_api.as_str());
    for (key, value) in &parameters.metadata {
        object.set(key, value.as_str());
    }
    object.set("timestamp", parameters.timestamp_s);
    object
}
