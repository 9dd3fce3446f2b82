//! LLMPerf's result files (`token_benchmark_ray.py`, `llm_correctness.py`), so that programs that read them go on working.
//!
//! Names, keys, order, indentation and the unusual forms are LLMPerf's: the smallest and largest numbers of tokens are strings
//! (its `json.dump(default=str)` does that to numpy's integers, and readers in typed languages rely on it), and the frequency
//! of error codes is Python's `str(dict)`. Definitions are LLMPerf's too: `inter_token_latency_s` is the sum of all gaps, the
//! time to the first token included, over the output tokens; a request lasts until its stream is closed. Summaries are over
//! requests without error, with pandas' rules: missing values are left out, quantiles are interpolated linearly, the standard
//! deviation has n − 1.
//!
//! Two things differ. Where LLMPerf writes the bare word `NaN` (a mean over no request, a standard deviation over one), which
//! is no JSON, these files have `null`; Python reads it as `None`. And no request is forgotten: LLMPerf knows no timeouts,
//! drops and cancellations, which are errors with code −1 here, as its own failures without a status are.

mod correctness;
mod object;
mod series;

use std::collections::BTreeMap;

use precise_time::MonotonicTime;
use serde::Serialize;
use serde_json::{Map, Value};

pub use correctness::{CorrectnessAnswer, CorrectnessParameters, correctness_files};
use object::Object;
use series::Series;

use super::request_metrics::{end_to_end, output_tokens, time_to_first_token};
use crate::{
    plan::{Lengths, Load, Plan, Workload},
    record::{Class, RequestRecord},
};

/// LLMPerf's version of the format.
const RESULTS_VERSION: &str = "2023-08-31";
/// The code of a failure without an HTTP status.
const NO_STATUS: i32 = -1;

/// A file for the results directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultFile {
    /// Its name.
    pub name: String,
    /// Its text.
    pub content: String,
}

/// LLMPerf's command-line parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// The model.
    pub model: String,
    /// Lengths of prompts.
    pub input_tokens: Lengths,
    /// Lengths of answers.
    pub output_tokens: Lengths,
    /// Number of streams; `None` (null) for an open loop, which LLMPerf does not have.
    pub num_concurrent_requests: Option<u32>,
    /// Additional sampling parameters.
    pub sampling: Map<String, Value>,
    /// The user's labels.
    pub metadata: BTreeMap<String, String>,
    /// When the files are written, seconds since 1970.
    pub timestamp_s: i64,
}

impl Parameters {
    /// The parameters of a plan. Where the workload is not LLMPerf's, its lengths are those of the requests, rounded.
    #[must_use]
    pub fn of(plan: &Plan, records: &[RequestRecord], timestamp_s: i64) -> Self {
        let prompts = || lengths(records.iter().map(|record| Some(record.prompt_tokens)));
        let (input_tokens, output_tokens) = match &plan.workload {
            Workload::Sonnets {
                input_tokens,
                output_tokens,
                ..
            } => (*input_tokens, *output_tokens),
            Workload::Dataset { output_tokens, .. } => (prompts(), *output_tokens),
            Workload::Trace { .. } | Workload::Correctness => {
                (prompts(), lengths(records.iter().map(output_tokens_of_answer)))
            }
        };
        Self {
            model: plan.model.clone(),
            input_tokens,
            output_tokens,
            num_concurrent_requests: match plan.load {
                Load::Closed { concurrency, .. } => Some(concurrency.get()),
                Load::Open { .. } | Load::Trace { .. } => None,
            },
            sampling: plan.sampling.clone(),
            metadata: plan.metadata.clone(),
            timestamp_s,
        }
    }
}

fn output_tokens_of_answer(record: &RequestRecord) -> Option<u32> {
    (record.class == Class::Ok)
        .then(|| output_tokens(record))
        .flatten()
}

fn lengths(tokens: impl Iterator<Item = Option<u32>>) -> Lengths {
    let series = Series::new(tokens.map(|tokens| tokens.map(f64::from)));
    Lengths {
        mean: series.mean().unwrap_or(0.0).round(),
        stddev: series.stddev().unwrap_or(0.0).round(),
    }
}

/// `{model}_{mean_in}_{mean_out}_summary.json` and `..._individual_responses.json` of these requests (without the
/// warm-up); `message` returns the error message of a request.
#[must_use]
pub fn files<'m>(
    parameters: &Parameters,
    records: &[RequestRecord],
    message: impl Fn(u64) -> Option<&'m str>,
) -> [ResultFile; 2] {
    let mut records = records.to_vec();
    records.sort_by_key(|record| record.closed);
    let responses: Vec<_> = records
        .iter()
        .map(|record| Response::new(record, message(record.index)))
        .collect();
    let stem = file_stem(&format!(
        "{}_{}_{}",
        parameters.model, parameters.input_tokens.mean, parameters.output_tokens.mean
    ));
    let name = format!("{stem}_summary");
    let summary = summary(&name, parameters, &responses, span_s(&records));
    [
        json_file(name, &summary),
        json_file(format!("{stem}_individual_responses"), &responses),
    ]
}

/// `re.sub(r"[^\w\d-]+", "-", name)` and then `re.sub(r"-{2,}", "-", name)`.
fn file_stem(name: &str) -> String {
    let mut stem = String::with_capacity(name.len());
    for character in name.chars() {
        let kept = if character.is_alphanumeric() || character == '_' {
            character
        } else {
            '-'
        };
        if kept != '-' || !stem.ends_with('-') {
            stem.push(kept);
        }
    }
    stem
}

/// `json.dump(value, indent=4)`.
fn json_file(stem: String, value: &impl Serialize) -> ResultFile {
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    #[expect(
        clippy::expect_used,
        reason = "text keys and finite numbers, written to memory"
    )]
    value.serialize(&mut serializer).expect("a result is JSON");
    ResultFile {
        name: stem + ".json",
        content: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// From the first request's due time to the end of the last one, s.
fn span_s(records: &[RequestRecord]) -> Option<f64> {
    let first: MonotonicTime = records.iter().map(|record| record.intended).min()?;
    let last = records.iter().map(|record| record.closed).max()?;
    let span = last.saturating_since(first).as_secs_f64();
    (span > 0.0).then_some(span)
}

/// An entry of the individual responses. Failed ones have the values of LLMPerf's client when it gives up: no latency and no
/// throughput; they count in no summary.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Response {
    error_code: Option<i32>,
    error_msg: String,
    inter_token_latency_s: Option<f64>,
    ttft_s: Option<f64>,
    end_to_end_latency_s: Option<f64>,
    request_output_throughput_token_per_s: Option<f64>,
    number_total_tokens: Option<u32>,
    number_output_tokens: Option<u32>,
    number_input_tokens: u32,
}

impl Response {
    fn new(record: &RequestRecord, message: Option<&str>) -> Self {
        if record.class == Class::Ok {
            Self::answered(record)
        } else {
            Self::failed(record, message)
        }
    }

    fn answered(record: &RequestRecord) -> Self {
        let tokens = output_tokens(record);
        let gaps = record.sent.and_then(|sent| end_to_end(record, sent));
        let total = record
            .sent
            .map(|sent| record.closed.saturating_since(sent).as_secs_f64());
        Self {
            error_code: None,
            error_msg: String::new(),
            inter_token_latency_s: match tokens {
                Some(0) => Some(0.0),
                _ => gaps
                    .zip(tokens)
                    .map(|(gaps, n)| gaps.as_secs_f64() / f64::from(n)),
            },
            ttft_s: record
                .sent
                .and_then(|sent| time_to_first_token(record, sent))
                .map(|ttft| ttft.as_secs_f64()),
            end_to_end_latency_s: total,
            request_output_throughput_token_per_s: tokens
                .zip(total)
                .map(|(n, total)| if total > 0.0 { f64::from(n) / total } else { 0.0 }),
            number_total_tokens: tokens.map(|n| n.saturating_add(record.prompt_tokens)),
            number_output_tokens: tokens,
            number_input_tokens: record.prompt_tokens,
        }
    }

    fn failed(record: &RequestRecord, message: Option<&str>) -> Self {
        let tokens = output_tokens(record).unwrap_or(0);
        let ttft = record.sent.and_then(|sent| time_to_first_token(record, sent));
        let gaps = record.sent.and_then(|sent| end_to_end(record, sent));
        let code = match record.status {
            200..300 | 0 => NO_STATUS,
            status => i32::from(status),
        };
        Self {
            error_code: Some(code),
            error_msg: message.map_or_else(|| format!("{:?}", record.class), str::to_owned),
            inter_token_latency_s: Some(match gaps {
                Some(gaps) if tokens > 0 => gaps.as_secs_f64() / f64::from(tokens),
                _ => 0.0,
            }),
            ttft_s: Some(ttft.map_or(0.0, |ttft| ttft.as_secs_f64())),
            end_to_end_latency_s: Some(0.0),
            request_output_throughput_token_per_s: Some(0.0),
            number_total_tokens: Some(tokens.saturating_add(record.prompt_tokens)),
            number_output_tokens: Some(tokens),
            number_input_tokens: record.prompt_tokens,
        }
    }
}

fn summary(name: &str, parameters: &Parameters, responses: &[Response], span_s: Option<f64>) -> Object {
    let mut object = Object::default();
    object.set("version", RESULTS_VERSION);
    object.set("name", name);
    object.set("model", parameters.model.as_str());
    object.set("mean_input_tokens", number(parameters.input_tokens.mean));
    object.set("stddev_input_tokens", number(parameters.input_tokens.stddev));
    object.set("mean_output_tokens", number(parameters.output_tokens.mean));
    object.set("stddev_output_tokens", number(parameters.output_tokens.stddev));
    object.set("num_concurrent_requests", parameters.num_concurrent_requests);
    object.set_flattened("additional_sampling_params", &parameters.sampling);
    results(&mut object, responses, span_s);
    for (key, value) in &parameters.metadata {
        object.set(key, value.as_str());
    }
    object.set("timestamp", parameters.timestamp_s);
    object
}

/// As an integer where it is one, like LLMPerf's command line; otherwise as a fraction.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked by the comparison")]
    let integer = value as i64;
    if integer as f64 == value {
        integer.into()
    } else {
        value.into()
    }
}

fn results(object: &mut Object, responses: &[Response], span_s: Option<f64>) {
    let answered: Vec<_> = responses
        .iter()
        .filter(|response| response.error_code.is_none())
        .collect();
    let series = |value: &dyn Fn(&Response) -> Option<f64>| Series::new(answered.iter().map(|r| value(r)));
    let tokens = |tokens: Option<u32>| tokens.map(f64::from);
    let output_tokens = series(&|r| tokens(r.number_output_tokens));
    for (key, series) in [
        ("inter_token_latency_s", series(&|r| r.inter_token_latency_s)),
        ("ttft_s", series(&|r| r.ttft_s)),
        ("end_to_end_latency_s", series(&|r| r.end_to_end_latency_s)),
        (
            "request_output_throughput_token_per_s",
            series(&|r| r.request_output_throughput_token_per_s),
        ),
    ] {
        summarise(object, key, &series, &|extreme| extreme.into());
    }
    let input_tokens = series(&|r| tokens(Some(r.number_input_tokens)));
    for (key, series) in [
        ("number_input_tokens", &input_tokens),
        ("number_output_tokens", &output_tokens),
    ] {
        let as_text = |extreme: Option<f64>| extreme.map(|tokens| tokens.to_string()).into();
        summarise(object, key, series, &as_text);
    }

    let errors = responses.len() - answered.len();
    let rate = if responses.is_empty() {
        0.0
    } else {
        errors as f64 / responses.len() as f64
    };
    object.set("results_num_requests_started", responses.len());
    object.set("results_error_rate", rate);
    object.set("results_number_errors", errors);
    object.set("results_error_code_frequency", error_code_frequency(responses));
    let throughput = span_s.map(|span| output_tokens.sum() / span);
    object.set("results_mean_output_throughput_token_per_s", throughput);
    object.set("results_num_completed_requests", answered.len());
    let per_minute = span_s.map(|span| answered.len() as f64 / span * 60.0);
    object.set("results_num_completed_requests_per_min", per_minute);
}

fn summarise(object: &mut Object, key: &str, series: &Series, extreme: &dyn Fn(Option<f64>) -> Value) {
    for percent in [25, 50, 75, 90, 95, 99] {
        let quantile = series.quantile(f64::from(percent) / 100.0);
        object.set(&format!("results_{key}_quantiles_p{percent}"), quantile);
    }
    object.set(&format!("results_{key}_mean"), series.mean());
    object.set(&format!("results_{key}_min"), extreme(series.min()));
    object.set(&format!("results_{key}_max"), extreme(series.max()));
    object.set(&format!("results_{key}_stddev"), series.stddev());
}

/// `str(dict(error_codes.value_counts()))`: the most frequent first, ties in the order of appearance. The codes are floats
/// where some request has none, because pandas has no missing integers.
fn error_code_frequency(responses: &[Response]) -> String {
    let mut counts: Vec<(i32, u64)> = Vec::new();
    for code in responses.iter().filter_map(|response| response.error_code) {
        match counts.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => counts.push((code, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let all_failed = responses.iter().all(|response| response.error_code.is_some());
    let point = if all_failed { "" } else { ".0" };
    let entries: Vec<_> = counts
        .iter()
        .map(|(code, count)| format!("{code}{point}: {count}"))
        .collect();
    format!("{{{}}}", entries.join(", "))
}

#[cfg(test)]
mod tests;
