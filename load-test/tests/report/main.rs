//! From a run against the mock server to its report and files.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    fs,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use llm_client::{Api, Endpoint, Generation, Prompt};
use load_test::{
    journal::{self, CHUNKS_FILE, Journal, REQUESTS_FILE, RequestLine},
    plan::{Lengths, Load, Plan, Slo, Stop, Workload},
    report::{Report, ReportInputs, build, build::ReportHeader, llmperf, model::WorkloadSection, text},
    run::{EncodedRequest, Progress, Recording, RunInputs, Texts, run},
    verdict::ErrorLimits,
};
use mock_llm::{MockLlm, Settings};
use precise_time::MonotonicTime;
use shared_types::SystemClock;
use test_patience::patience;
use tokio_util::sync::CancellationToken;

const TTFT: Duration = Duration::from_millis(50);
const ITL: Duration = Duration::from_millis(10);
const TOKENS: u32 = 11;

fn plan() -> Plan {
    let lengths = Lengths {
        mean: 10.0,
        stddev: 0.0,
    };
    Plan {
        model: "org/mock".to_owned(),
        api: Api::OpenAiChat,
        workload: Workload::Sonnets {
            input_tokens: lengths,
            output_tokens: lengths,
            shared_prefix_tokens: 0,
            distinct_prompts: NonZeroU32::MIN,
        },
        load: Load::Closed {
            concurrency: NonZeroU32::new(4).unwrap(),
            ramp_up: Duration::ZERO,
        },
        stop: Stop {
            send_for: patience(),
            max_requests: Some(40),
            drain: patience(),
        },
        warmup_requests: 4,
        slo: Slo {
            ttft_s: Some(patience().as_secs_f64()),
            ..Slo::default()
        },
        seed: 1,
        stream: true,
        request_timeout: patience(),
        client_cores: NonZeroU32::MIN,
        sampling: serde_json::Map::new(),
        metadata: BTreeMap::new(),
    }
}

fn run_inputs(
    plan: &Plan,
    base_url: &str,
    journal: std::sync::mpsc::SyncSender<Vec<load_test::record::FinishedRequest>>,
) -> RunInputs {
    let endpoint = Endpoint::new(plan.api, base_url, None).unwrap();
    let body = endpoint.encode(&Generation {
        model: &plan.model,
        prompt: Prompt::Text("Say something."),
        max_tokens: Some(TOKENS),
        stream: plan.stream,
        sampling: &plan.sampling,
    });
    RunInputs {
        requests: [EncodedRequest {
            body,
            prompt_tokens: 10,
        }]
        .into(),
        plan: plan.clone(),
        endpoint,
        trace: [].into(),
        recording: Recording {
            texts: Texts::ToCount,
            chunk_timestamps: true,
        },
        journal,
        progress: Arc::new(Progress::new(1)),
        cancel: CancellationToken::new(),
        clock: Arc::new(SystemClock),
    }
}

#[test]
fn a_run_becomes_a_report_and_its_files() {
    let server = MockLlm::start(Settings {
        ttft: TTFT,
        itl: ITL,
        output_tokens: TOKENS,
        ..Settings::default()
    })
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let settings = journal::JournalSettings {
        directory: Some(directory.path().to_owned()),
        record_chunks: true,
        started: MonotonicTime::now(),
    };
    let plan = plan();
    let (sender, journal) = Journal::start(settings, ()).unwrap();
    let measurements = run(run_inputs(&plan, &server.base_url(), sender)).unwrap();
    let (mut recorded, ()) = journal.finish().unwrap();
    recorded.count_tokens(|_| Some(TOKENS), NonZeroUsize::MIN);
    let report = build(ReportInputs {
        header: ReportHeader {
            run_id: "test".to_owned(),
            workload: WorkloadSection {
                plan: plan.clone(),
                tokenizer: "none".to_owned(),
                facts: serde_json::Map::new(),
            },
            version: "0".to_owned(),
            host: "here".to_owned(),
            started_at: measurements.started_at,
            calibration: None,
        },
        measurements: &measurements,
        recorded: &recorded,
        limits: ErrorLimits::default(),
    });
    check_figures(&report);

    let requests = fs::read_to_string(directory.path().join(REQUESTS_FILE)).unwrap();
    let lines: Vec<RequestLine<'_>> = requests
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 40);
    assert!(
        lines.iter().all(
            |line| line.client_output_tokens == Some(TOKENS) && line.server_output_tokens == Some(TOKENS)
        )
    );
    let chunks = fs::read_to_string(directory.path().join(CHUNKS_FILE)).unwrap();
    assert_eq!(chunks.lines().count(), 40);

    let measured = &recorded.records[4..];
    let parameters = llmperf::Parameters::of(&plan, measured, 0);
    let [summary, individual] = llmperf::files(&parameters, measured, |index| recorded.errors.of(index));
    assert_eq!(summary.name, "org-mock_10_10_summary.json");
    let summary: serde_json::Value = serde_json::from_str(&summary.content).unwrap();
    assert_eq!(summary["results_num_completed_requests"], 36);
    let individual: Vec<serde_json::Value> = serde_json::from_str(&individual.content).unwrap();
    assert_eq!(individual.len(), 36);
}

/// Only what holds on a busy machine too: the mock never answers early.
fn check_figures(report: &Report) {
    let totals = report.requests;
    assert_eq!((totals.scheduled, totals.ok, report.warmup_requests), (36, 36, 4));
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(report.ttft_s.min.unwrap() >= TTFT.as_secs_f64());
    assert!(report.e2e_latency_s.min.unwrap() >= (TTFT + ITL * (TOKENS - 1)).as_secs_f64());
    assert!(report.ttft_from_intended_s.mean >= report.ttft_s.mean);
    // Ten gaps of 10 ms on the average, whatever the machine delays.
    assert!(report.tpot_s.n > 0 && report.tpot_s.max.unwrap() > 0.009);
    assert!(report.icl_s.n > 0);
    assert_eq!(report.output_tokens.max, Some(f64::from(TOKENS)));
    assert_eq!(report.token_accounting.server, 36);
    assert_eq!(report.token_accounting.difference.max, Some(0));
    assert_eq!(report.goodput.unwrap().share, Some(1.0));
    assert!(report.requests_per_s.unwrap() > 0.0);
    let said = text::summary(report);
    assert!(said.contains("36 scheduled (and 4 to warm up): 36 ok"), "{said}");
    let json = serde_json::to_string(report).unwrap();
    assert_eq!(&serde_json::from_str::<Report>(&json).unwrap(), report);
}
