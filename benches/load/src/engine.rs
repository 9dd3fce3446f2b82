//! The load test's engine, as `llm-bench load-test` runs it, but without files.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, mpsc},
    thread,
};

use llm_client::{Api, Endpoint, Prompt};
use load_test::{
    plan::{Lengths, Load, Plan, Slo, Stop, Workload},
    record::{Class, FinishedRequest, RequestRecord},
    run::{EncodedRequest, Progress, Recording, RunInputs, RunMeasurements, Texts, run as run_plan},
    verdict::{ErrorLimits, Verdict, judge},
};
use shared_types::SystemClock;
use tokio_util::sync::CancellationToken;

use crate::{
    client_run::{ClientRun, RequestTimes, SelfReport},
    scenario::{END_TIMEOUT, Scenario},
};

/// The capacity of the channel of records, in batches.
const JOURNAL_BATCHES: usize = 64;
const PROMPT: &str = "Say something that is long enough to be measured and short enough not to matter.";
const PROMPT_TOKENS: u32 = 15;

/// The endpoint of both clients.
pub(crate) fn endpoint(base_url: &str) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::new(Api::OpenAiChat, base_url, None)?)
}

/// The request that both clients send repeatedly.
pub(crate) fn request(endpoint: &Endpoint, scenario: &Scenario) -> anyhow::Result<EncodedRequest> {
    let prompt = Prompt::Text(PROMPT);
    let plan = plan(scenario)?;
    Ok(EncodedRequest::new(
        endpoint,
        &plan,
        prompt,
        PROMPT_TOKENS,
        Some(scenario.tokens),
    ))
}

/// Runs the scenario.
pub(crate) fn run(scenario: &Scenario, base_url: &str) -> anyhow::Result<ClientRun> {
    let endpoint = endpoint(base_url)?;
    let (journal, batches) = mpsc::sync_channel(JOURNAL_BATCHES);
    let inputs = RunInputs {
        plan: plan(scenario)?,
        requests: Arc::new([request(&endpoint, scenario)?]),
        endpoint,
        trace: Arc::default(),
        recording: Recording {
            texts: Texts::ToCount,
            chunk_timestamps: false,
        },
        journal,
        progress: Arc::new(Progress::new(1)),
        cancel: CancellationToken::new(),
        clock: Arc::new(SystemClock),
    };
    let (measurements, records) = thread::scope(|scope| {
        let running = scope.spawn(|| run_plan(inputs));
        let record = |finished: FinishedRequest| finished.record;
        let records: Vec<RequestRecord> = batches.into_iter().flatten().map(record).collect();
        let measurements = running
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        measurements.map(|measurements| (measurements, records))
    })?;
    Ok(ClientRun {
        self_report: Some(self_report(&measurements, &records)),
        requests: records.iter().map(request_times).collect(),
    })
}

fn plan(scenario: &Scenario) -> anyhow::Result<Plan> {
    let concurrency = NonZeroU32::new(scenario.streams).ok_or_else(|| anyhow::anyhow!("no streams"))?;
    let lengths = Lengths {
        mean: f64::from(PROMPT_TOKENS),
        stddev: 0.0,
    };
    Ok(Plan {
        model: "mock".to_owned(),
        api: Api::OpenAiChat,
        workload: Workload::Sonnets {
            input_tokens: lengths,
            output_tokens: lengths,
            shared_prefix_tokens: 0,
            distinct_prompts: NonZeroU32::MIN,
        },
        load: Load::Closed {
            concurrency,
            ramp_up: scenario.ramp,
        },
        stop: Stop {
            send_for: scenario.ramp + scenario.steady,
            max_requests: None,
            drain: scenario.round() + END_TIMEOUT,
        },
        warmup_requests: 0,
        slo: Slo::default(),
        seed: 1,
        stream: true,
        request_timeout: 2 * (scenario.round() + END_TIMEOUT),
        client_cores: NonZeroU32::MIN,
        sampling: serde_json::Map::new(),
        metadata: BTreeMap::new(),
    })
}

/// The engine's verdict, without a calibration, which would need a server on the client's only core.
fn self_report(measurements: &RunMeasurements, records: &[RequestRecord]) -> SelfReport {
    let mut ttfts: Vec<_> = records
        .iter()
        .filter(|record| record.intended >= measurements.ramp_end)
        .filter_map(|record| Some(record.first_content?.saturating_since(record.sent?)))
        .collect();
    ttfts.sort_unstable();
    let median = ttfts.get(ttfts.len() / 2).map(std::time::Duration::as_secs_f64);
    let judged = judge(measurements, None, median, &ErrorLimits::default());
    SelfReport {
        is_valid: judged.verdict == Verdict::Valid,
        reasons: judged.reasons,
        loop_lag_p99_s: judged.loop_lag_p99_s,
        stamp_uncertainty_p99_s: judged.stamp_uncertainty_p99_s,
    }
}

fn request_times(record: &RequestRecord) -> RequestTimes {
    RequestTimes {
        sent: record.sent,
        first: record.first_content,
        last: record.last_content,
        closed: record.closed,
        tokens: record.chunks,
        server_wrote_first: record.server_wrote_first,
        is_ok: record.class == Class::Ok,
    }
}
