//! The figures of a summary, of all values or of histograms.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use statistics::RunningStatistics;

use super::{Response, object::Object, series::Series};
use crate::report::samples::{Samples, Unit};

/// Values of which a summary has quantiles and moments.
pub(super) trait Measured {
    /// `None` without values.
    fn quantile(&self, q: f64) -> Option<f64>;

    /// Of all values.
    fn moments(&self) -> &RunningStatistics;
}

/// What a summary says of requests, those without error where it is about answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Figures<T> {
    inter_token_latency_s: T,
    ttft_s: T,
    end_to_end_latency_s: T,
    request_output_throughput_token_per_s: T,
    number_input_tokens: T,
    pub(super) number_output_tokens: T,
    started: u64,
    /// In the order of appearance.
    error_codes: Vec<(i32, u64)>,
    /// From the first request's due time to the end of the last one.
    span_s: Option<f64>,
}

impl Figures<Series> {
    pub(super) fn exact(responses: &[Response], span_s: Option<f64>) -> Self {
        Self::new(responses, span_s, |_, values| Series::new(values))
    }
}

impl Figures<Samples> {
    pub(super) fn in_histograms(responses: &[Response], span_s: Option<f64>) -> Self {
        Self::new(responses, span_s, |unit, values| {
            Samples::of(unit, values.flatten())
        })
    }

    /// Adds those of another load generator. The spans are taken as one: they began together.
    pub(super) fn merge(&mut self, other: &Self) {
        self.inter_token_latency_s.merge(&other.inter_token_latency_s);
        self.ttft_s.merge(&other.ttft_s);
        self.end_to_end_latency_s.merge(&other.end_to_end_latency_s);
        self.request_output_throughput_token_per_s
            .merge(&other.request_output_throughput_token_per_s);
        self.number_input_tokens.merge(&other.number_input_tokens);
        self.number_output_tokens.merge(&other.number_output_tokens);
        self.started += other.started;
        for (code, count) in &other.error_codes {
            count_code(&mut self.error_codes, *code, *count);
        }
        // Which machine's came first is not known.
        self.error_codes.sort_unstable();
        self.span_s = self.span_s.into_iter().chain(other.span_s).reduce(f64::max);
    }
}

impl<T> Figures<T> {
    fn new(
        responses: &[Response],
        span_s: Option<f64>,
        make: impl Fn(Unit, &mut dyn Iterator<Item = Option<f64>>) -> T,
    ) -> Self {
        let answered = || responses.iter().filter(|response| response.error_code.is_none());
        let of = |unit, value: &dyn Fn(&Response) -> Option<f64>| make(unit, &mut answered().map(value));
        let mut error_codes = Vec::new();
        for code in responses.iter().filter_map(|response| response.error_code) {
            count_code(&mut error_codes, code, 1);
        }
        Self {
            inter_token_latency_s: of(Unit::Seconds, &|r| r.inter_token_latency_s),
            ttft_s: of(Unit::Seconds, &|r| r.ttft_s),
            end_to_end_latency_s: of(Unit::Seconds, &|r| r.end_to_end_latency_s),
            request_output_throughput_token_per_s: of(Unit::TokensPerSecond, &|r| {
                r.request_output_throughput_token_per_s
            }),
            number_input_tokens: of(Unit::Tokens, &|r| Some(f64::from(r.number_input_tokens))),
            number_output_tokens: of(Unit::Tokens, &|r| r.number_output_tokens.map(f64::from)),
            started: responses.len() as u64,
            error_codes,
            span_s,
        }
    }
}

impl<T: Measured> Figures<T> {
    /// LLMPerf's keys, in its order.
    pub(super) fn write(&self, object: &mut Object) {
        for (key, values) in [
            ("inter_token_latency_s", &self.inter_token_latency_s),
            ("ttft_s", &self.ttft_s),
            ("end_to_end_latency_s", &self.end_to_end_latency_s),
            (
                "request_output_throughput_token_per_s",
                &self.request_output_throughput_token_per_s,
            ),
        ] {
            summarise(object, key, values, &|extreme| extreme.into());
        }
        for (key, values) in [
            ("number_input_tokens", &self.number_input_tokens),
            ("number_output_tokens", &self.number_output_tokens),
        ] {
            let as_text = |extreme: Option<f64>| extreme.map(|tokens| tokens.to_string()).into();
            summarise(object, key, values, &as_text);
        }
        let errors: u64 = self.error_codes.iter().map(|(_, count)| count).sum();
        let answered = self.started - errors;
        let rate = if self.started == 0 {
            0.0
        } else {
            errors as f64 / self.started as f64
        };
        object.set("results_num_requests_started", self.started);
        object.set("results_error_rate", rate);
        object.set("results_number_errors", errors);
        object.set(
            "results_error_code_frequency",
            self.error_code_frequency(answered),
        );
        let tokens = self.number_output_tokens.moments().sum().unwrap_or(f64::INFINITY);
        let throughput = self.span_s.map(|span| tokens / span);
        object.set("results_mean_output_throughput_token_per_s", throughput);
        object.set("results_num_completed_requests", answered);
        let per_minute = self.span_s.map(|span| answered as f64 / span * 60.0);
        object.set("results_num_completed_requests_per_min", per_minute);
    }

    /// `str(dict(error_codes.value_counts()))`: the most frequent first, ties in the order of appearance. The codes are floats
    /// where some request has none, because pandas has no missing integers.
    fn error_code_frequency(&self, answered: u64) -> String {
        let mut counts = self.error_codes.clone();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let point = if answered == 0 { "" } else { ".0" };
        let entries: Vec<_> = counts
            .iter()
            .map(|(code, count)| format!("{code}{point}: {count}"))
            .collect();
        format!("{{{}}}", entries.join(", "))
    }
}

fn count_code(counts: &mut Vec<(i32, u64)>, code: i32, more: u64) {
    match counts.iter_mut().find(|(known, _)| *known == code) {
        Some((_, count)) => *count += more,
        None => counts.push((code, more)),
    }
}

fn summarise(object: &mut Object, key: &str, values: &impl Measured, extreme: &dyn Fn(Option<f64>) -> Value) {
    for percent in [25, 50, 75, 90, 95, 99] {
        let quantile = values.quantile(f64::from(percent) / 100.0);
        object.set(&format!("results_{key}_quantiles_p{percent}"), quantile);
    }
    let moments = values.moments();
    object.set(&format!("results_{key}_mean"), moments.mean());
    object.set(&format!("results_{key}_min"), extreme(moments.min()));
    object.set(&format!("results_{key}_max"), extreme(moments.max()));
    object.set(&format!("results_{key}_stddev"), moments.stddev());
}

impl Measured for Samples {
    fn quantile(&self, q: f64) -> Option<f64> {
        self.quantile(q)
    }

    fn moments(&self) -> &RunningStatistics {
        self.moments()
    }
}
