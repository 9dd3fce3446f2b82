//! Makes the report of a run.

use chrono::{DateTime, Utc};
use shared_types::ErrorChain;

use super::{
    distribution::Distribution,
    model::{
        ClientSection, ErrorSummary, Goodput, Report, SCHEMA_VERSION, TokenAccounting, WindowSection,
        WorkloadSection,
    },
    part::{PartInputs, RunPart},
    samples::SampleUnit,
    window::{Window, WindowKind},
};
use crate::{
    calibration::Calibration,
    journal::RecordedRun,
    plan::{Load, Plan, Slo},
    run::RunMeasurements,
    verdict::{ClientError, ErrorLimits, Verdict},
};

/// The parts of a report beside its figures.
#[derive(Debug, Clone)]
pub struct ReportHeader {
    /// Identifies the run.
    pub run_id: String,
    /// Prompts, load and objectives.
    pub workload: WorkloadSection,
    /// Version of this program.
    pub version: String,
    /// The machine, or the machines.
    pub host: String,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// The client's own error, measured before the run.
    pub calibration: Option<Calibration>,
}

/// The inputs of a run's report.
#[derive(Debug)]
pub struct ReportInputs<'a> {
    /// The parts beside the figures.
    pub header: ReportHeader,
    /// What the engine measured.
    pub measurements: &'a RunMeasurements,
    /// What the journal recorded.
    pub recorded: &'a RecordedRun,
    /// How large the client's own error may be.
    pub limits: ErrorLimits,
}

/// The report of a run of one process.
#[must_use]
pub fn build(inputs: ReportInputs<'_>) -> Report {
    let plan = &inputs.header.workload.plan;
    let window = Window::choose(
        &inputs.recorded.records,
        plan.warmup_requests,
        inputs.measurements,
    );
    let part = part(&inputs, &window);
    of_part(inputs.header, &part)
}

/// The part of a run, to be merged with others.
#[must_use]
pub fn part(inputs: &ReportInputs<'_>, window: &Window) -> RunPart {
    let plan = &inputs.header.workload.plan;
    let recorded = inputs.recorded;
    let part_inputs = PartInputs {
        measurements: inputs.measurements,
        started: recorded.started,
        window,
        slo: &plan.slo,
        is_streamed: plan.stream,
        scheduled: inputs.measurements.scheduled,
        calibration: inputs.header.calibration.as_ref(),
        limits: &inputs.limits,
    };
    let mut part = RunPart::new(&part_inputs, &recorded.records, |index| recorded.errors.of(index));
    let repeated = recorded
        .records
        .windows(2)
        .filter(|pair| pair[0].index == pair[1].index)
        .count();
    if repeated > 0 {
        part.client_error
            .invalidate(format!("{repeated} requests were recorded twice; expected none."));
    }
    part.problems = recorded
        .problems
        .iter()
        .map(|problem| ErrorChain(problem).to_string())
        .collect();
    part
}

/// The report of a part, or of many that were merged.
#[must_use]
pub fn of_part(header: ReportHeader, part: &RunPart) -> Report {
    let window_s = part.windows.length_s();
    let per_second = |count: u64| (window_s > 0.0).then(|| count as f64 / window_s);
    let slo = header.workload.plan.slo;
    let client_error = client_error(part, &header.workload.plan);
    let samples = &part.samples;
    Report {
        schema_version: SCHEMA_VERSION,
        run_id: header.run_id,
        model: header.workload.plan.model.clone(),
        client: ClientSection {
            version: header.version,
            cores: header.workload.plan.client_cores.get(),
            host: header.host,
            shares: part.windows.parts,
            busiest_thread_cpu_share: part.busiest_thread_cpu_share,
        },
        workload: header.workload,
        started_at: header.started_at,
        interrupted: part.interrupted,
        steady_window_s: window_s,
        steady_window: window_section(part),
        ttft_s: samples.ttft_s.distribution(),
        ttft_from_intended_s: samples.ttft_from_intended_s.distribution(),
        ttfo_s: samples.ttfo_s.distribution(),
        tpot_s: samples.tpot_s.distribution(),
        icl_s: Distribution::of_pooled(&part.icl, SampleUnit::Seconds.ticks()),
        e2e_latency_s: samples.e2e_latency_s.distribution(),
        e2e_from_intended_s: samples.e2e_from_intended_s.distribution(),
        tps: samples.tps.distribution(),
        prompt_tokens: samples.prompt_tokens.distribution(),
        output_tokens: samples.output_tokens.distribution(),
        output_tokens_per_s: part
            .tokens
            .counted_by()
            .and_then(|_| per_second(part.completed_tokens)),
        requests_per_s: per_second(part.completed),
        goodput: goodput(slo, part),
        requests: part.requests,
        warmup_requests: part.warmup_requests,
        errors: errors(part),
        backoff: part.backoff(),
        token_accounting: TokenAccounting {
            counted_by: part.tokens.counted_by(),
            server: part.tokens.by_server,
            client: part.tokens.by_client,
            uncounted: part.tokens.uncounted,
            difference: part.tokens.difference(),
        },
        client_error,
        calibration: header.calibration,
        problems: part.problems.clone(),
        shares: Vec::new(),
    }
}

fn window_section(part: &RunPart) -> WindowSection {
    WindowSection {
        kind: if part.windows.too_short.is_some() {
            WindowKind::WholeRun
        } else {
            WindowKind::Steady
        },
        too_short: part.windows.too_short,
        start_s: part.windows.start_s(),
        end_s: part.windows.end_s(),
    }
}

fn goodput(slo: Slo, part: &RunPart) -> Option<Goodput> {
    let scheduled = part.requests.scheduled;
    (slo != Slo::default()).then(|| Goodput {
        slo,
        good: part.good,
        share: (scheduled > 0).then(|| part.good as f64 / scheduled as f64),
    })
}

fn errors(part: &RunPart) -> Vec<ErrorSummary> {
    let mut errors: Vec<_> = part.errors.values().cloned().collect();
    errors.sort_by_key(|error| (std::cmp::Reverse(error.count), error.class, error.status));
    errors
}

/// The client's error; invalid where the numbers of requests are not consistent.
fn client_error(part: &RunPart, plan: &Plan) -> ClientError {
    let mut client_error = part.client_error.clone();
    if !part.requests.balance() {
        client_error.invalidate(format!(
            "{} requests were scheduled and {} ended; expected as many.",
            part.requests.scheduled,
            part.requests.ended()
        ));
    }
    if let (Load::Closed { concurrency, .. }, Some(requests)) = (&plan.load, plan.stop.max_requests)
        && requests < u64::from(concurrency.get())
    {
        client_error.invalidate(format!(
            "{concurrency} streams were asked for and only {requests} requests: there were never as many streams; expected at \
             least one request for each."
        ));
    }
    client_error
}

impl Report {
    /// Whether the figures can be trusted.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.client_error.verdict == Verdict::Valid
    }
}

#[cfg(test)]
mod tests;
