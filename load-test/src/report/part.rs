//! What one process contributes to a report, so that the parts of all shares of a run make one.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

use super::{
    client_error::larger,
    model::{BackoffSection, ErrorSummary, RequestTotals},
    request_metrics::{
        end_to_end, is_good, output_tokens, time_per_output_token, time_to_first_answer, time_to_first_token,
        tokens_per_second,
    },
    samples::{SampleUnit, Samples},
    tokens::TokenCounts,
    window::{TooShort, Window},
};
use crate::{
    calibration::Calibration,
    histograms::{self, growing_histogram},
    plan::Slo,
    record::{Class, RequestRecord},
    run::RunMeasurements,
    verdict::{ClientError, ErrorLimits, judge},
};

/// What one process contributes to a report: a whole run, or a share of one.
///
/// Merging is associative and commutative: parts may be put together in any order and any tree. It is written as
/// JSON; histograms are in HdrHistogram's V2 format, moments in that of [`statistics`], both in Base64.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPart {
    /// Figures of requests that were sent in the window and answered in full.
    pub samples: SampleSet,
    /// Gaps between chunks with content, ns.
    #[serde(with = "histograms::base64_v2")]
    pub icl: Histogram<u64>,
    /// How all requests after the warm-up ended.
    pub requests: RequestTotals,
    /// Requests of the warm-up.
    pub warmup_requests: u64,
    /// Number of requests that met every objective.
    pub good: u64,
    /// Failures by class and status.
    pub errors: BTreeMap<String, ErrorSummary>,
    /// Who counted the output tokens of answered requests.
    pub tokens: TokenCounts,
    /// Requests completed in the window.
    pub completed: u64,
    /// Output tokens of the requests completed in the window.
    pub completed_tokens: u64,
    /// The windows, those of all parts.
    pub windows: Windows,
    /// Sum of the pauses of streams after failures, ns.
    pub backoff_ns: u64,
    /// Number of pauses.
    pub backoff_waits: u64,
    /// The client's own error.
    pub client_error: ClientError,
    /// Share of a core that the busiest thread used.
    pub busiest_thread_cpu_share: Option<f64>,
    /// Whether the run was cancelled.
    pub interrupted: bool,
    /// What could not be written, kept or counted.
    pub problems: Vec<String>,
}

/// The windows of one or more parts. Shares of a run have about the same one; rates are over its mean
/// length, because their clocks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// Parts.
    pub parts: u32,
    /// Sum of their windows' starts since the runs' starts, ns.
    pub starts_ns: u64,
    /// Sum of their windows' ends, ns.
    pub ends_ns: u64,
    /// Why one of them is not the steady part.
    pub too_short: Option<TooShort>,
}

impl Windows {
    fn of(window: &Window, started: MonotonicTime) -> Self {
        let since_start = |moment: MonotonicTime| {
            u64::try_from(moment.saturating_since(started).as_nanos()).unwrap_or(u64::MAX)
        };
        Self {
            parts: 1,
            starts_ns: since_start(window.start),
            ends_ns: since_start(window.end),
            too_short: window.too_short,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.parts += other.parts;
        self.starts_ns += other.starts_ns;
        self.ends_ns += other.ends_ns;
        self.too_short = self.too_short.max(other.too_short);
    }

    /// Mean start since the run's start, s.
    #[must_use]
    pub fn start_s(&self) -> f64 {
        self.mean_s(self.starts_ns)
    }

    /// Mean end since the run's start, s.
    #[must_use]
    pub fn end_s(&self) -> f64 {
        self.mean_s(self.ends_ns)
    }

    /// Mean length, s.
    #[must_use]
    pub fn length_s(&self) -> f64 {
        self.mean_s(self.ends_ns.saturating_sub(self.starts_ns))
    }

    /// One division, so that parts with one window have the mean of one of them to the last bit.
    fn mean_s(&self, sum_ns: u64) -> f64 {
        sum_ns as f64 / (1e9 * f64::from(self.parts))
    }
}

macro_rules! sample_set {
    ($($(#[$doc:meta])* $name:ident: $unit:ident,)*) => {
        /// The figures of which a report has distributions, as [`model::Report`](super::model::Report) names them.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct SampleSet {
            $($(#[$doc])* pub $name: Samples,)*
        }

        impl SampleSet {
            fn of(values: &SampleValues) -> Self {
                Self { $($name: Samples::of(SampleUnit::$unit, values.$name.iter().copied()),)* }
            }

            fn merge(&mut self, other: &Self) {
                $(self.$name.merge(&other.$name);)*
            }
        }

        #[derive(Debug, Default)]
        struct SampleValues {
            $($name: Vec<f64>,)*
        }
    };
}

sample_set! {
    /// Time to the first content, from sent.
    ttft_s: Seconds,
    /// Time from the intended start.
    ttft_from_intended_s: Seconds,
    /// Time to the first content that is not reasoning, from sent.
    ttfo_s: Seconds,
    /// Time per output token after the first.
    tpot_s: Seconds,
    /// Time to the last content, from sent.
    e2e_latency_s: Seconds,
    /// Time from the intended start.
    e2e_from_intended_s: Seconds,
    /// Output tokens per second.
    tps: TokensPerSecond,
    /// Tokens of the prompt.
    prompt_tokens: Tokens,
    /// Tokens of the answer.
    output_tokens: Tokens,
}

impl SampleValues {
    fn add(&mut self, record: &RequestRecord, is_streamed: bool) {
        let seconds = |duration: std::time::Duration| duration.as_secs_f64();
        if let Some(sent) = record.sent {
            self.e2e_latency_s.extend(end_to_end(record, sent).map(seconds));
            if is_streamed {
                self.ttft_s.extend(time_to_first_token(record, sent).map(seconds));
                self.ttfo_s
                    .extend(time_to_first_answer(record, sent).map(seconds));
            }
        }
        self.e2e_from_intended_s
            .extend(end_to_end(record, record.intended).map(seconds));
        if is_streamed {
            self.ttft_from_intended_s
                .extend(time_to_first_token(record, record.intended).map(seconds));
            self.tpot_s.extend(time_per_output_token(record));
        }
        self.tps.extend(tokens_per_second(record));
        self.prompt_tokens.push(f64::from(record.prompt_tokens));
        self.output_tokens.extend(output_tokens(record).map(f64::from));
    }
}

/// The inputs of a part beside the records.
#[derive(Debug, Clone, Copy)]
pub struct PartInputs<'a> {
    /// What the engine measured.
    pub measurements: &'a RunMeasurements,
    /// The moment that the report's times are relative to.
    pub started: MonotonicTime,
    /// Its window.
    pub window: &'a Window,
    /// The limits that a good request keeps.
    pub slo: &'a Slo,
    /// Whether answers were streamed. Without a stream there is no time to the first token.
    pub is_streamed: bool,
    /// Requests that were due, the warm-up's included.
    pub scheduled: u64,
    /// The client's own error, measured before the run.
    pub calibration: Option<&'a Calibration>,
    /// How large the client's error may be.
    pub limits: &'a ErrorLimits,
}

impl RunPart {
    /// The part of these records; `message` returns the error message of a request.
    #[must_use]
    pub fn new<'m>(
        inputs: &PartInputs<'_>,
        records: &[RequestRecord],
        message: impl Fn(u64) -> Option<&'m str>,
    ) -> Self {
        let PartInputs {
            measurements,
            window,
            slo,
            is_streamed,
            ..
        } = *inputs;
        // Counted, because another share may have sent some of the warm-up requests.
        let is_warmup = |record: &&RequestRecord| record.index < window.first_index;
        let warmup_requests = records.iter().filter(is_warmup).count() as u64;
        let mut part = Self::empty(inputs, warmup_requests);
        let mut values = SampleValues::default();
        for record in records.iter().filter(|record| record.index >= window.first_index) {
            part.requests.add(record.class);
            part.good += u64::from(is_good(record, slo));
            if record.class == Class::Ok {
                part.tokens.add(record);
            } else {
                part.add_error(record, message(record.index));
            }
            if window.counts_for_rates(record) {
                part.completed += 1;
                part.completed_tokens += u64::from(output_tokens(record).unwrap_or(0));
            }
            if window.counts_for_latencies(record) {
                values.add(record, is_streamed);
            }
        }
        part.samples = SampleSet::of(&values);
        // Without a stream there is no TTFT, and the client's error is part of the end-to-end latency.
        let ttft_p50_s = part.samples.ttft_s.distribution().p50;
        let p50_s = ttft_p50_s.or_else(|| part.samples.e2e_latency_s.distribution().p50);
        part.client_error = judge(measurements, inputs.calibration, p50_s, inputs.limits);
        part
    }

    fn empty(inputs: &PartInputs<'_>, warmup_requests: u64) -> Self {
        let (measurements, window) = (inputs.measurements, inputs.window);
        let mut icl = growing_histogram();
        histograms::merge(&mut icl, &measurements.icl_steady);
        if window.too_short.is_some() {
            histograms::merge(&mut icl, &measurements.icl_ramp);
        }
        Self {
            samples: SampleSet::of(&SampleValues::default()),
            icl,
            requests: RequestTotals {
                scheduled: inputs.scheduled.saturating_sub(warmup_requests),
                ..RequestTotals::default()
            },
            warmup_requests,
            good: 0,
            errors: BTreeMap::new(),
            tokens: TokenCounts::default(),
            completed: 0,
            completed_tokens: 0,
            windows: Windows::of(window, inputs.started),
            backoff_ns: u64::try_from(measurements.backoff_waits.total.as_nanos()).unwrap_or(u64::MAX),
            backoff_waits: measurements.backoff_waits.count,
            client_error: judge(measurements, inputs.calibration, None, inputs.limits),
            busiest_thread_cpu_share: measurements.cpu_shares.iter().copied().reduce(f64::max),
            interrupted: measurements.interrupted,
            problems: Vec::new(),
        }
    }

    fn add_error(&mut self, record: &RequestRecord, message: Option<&str>) {
        let error = ErrorSummary {
            class: record.class,
            status: (record.status != 0).then_some(record.status),
            count: 1,
            sample: message.map(str::to_owned),
        };
        merge_error(&mut self.errors, &error);
    }

    /// Adds another part.
    pub fn merge(&mut self, other: &Self) {
        self.samples.merge(&other.samples);
        histograms::merge(&mut self.icl, &other.icl);
        self.requests.merge(&other.requests);
        self.warmup_requests += other.warmup_requests;
        self.good += other.good;
        for error in other.errors.values() {
            merge_error(&mut self.errors, error);
        }
        self.tokens.merge(&other.tokens);
        self.completed += other.completed;
        self.completed_tokens += other.completed_tokens;
        self.windows.merge(&other.windows);
        self.backoff_ns = self.backoff_ns.saturating_add(other.backoff_ns);
        self.backoff_waits += other.backoff_waits;
        self.client_error.merge(&other.client_error);
        self.busiest_thread_cpu_share = larger(self.busiest_thread_cpu_share, other.busiest_thread_cpu_share);
        self.interrupted |= other.interrupted;
        self.problems.extend(other.problems.iter().cloned());
        self.problems.sort();
    }

    /// Pauses of streams after failures.
    #[must_use]
    pub fn backoff(&self) -> BackoffSection {
        BackoffSection {
            waits: self.backoff_waits,
            total_s: self.backoff_ns as f64 / 1e9,
        }
    }
}

/// Adds a failure to those of its kind. The alphabetically first message is kept, so that the order does not matter.
fn merge_error(errors: &mut BTreeMap<String, ErrorSummary>, error: &ErrorSummary) {
    let key = format!("{:?} {:?}", error.class, error.status);
    let Some(known) = errors.get_mut(&key) else {
        errors.insert(key, error.clone());
        return;
    };
    known.count += error.count;
    known.sample = known.sample.take().into_iter().chain(error.sample.clone()).min();
}

#[cfg(test)]
mod tests;
