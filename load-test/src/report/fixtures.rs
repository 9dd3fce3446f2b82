//! Records for tests.

use precise_time::MonotonicTime;

use super::{build::ReportHeader, model::WorkloadSection};
use crate::{
    histograms::duration_histogram,
    journal::{self, Journal, RecordedRun},
    plan::Plan,
    record::{Class, FinishedRequest, RequestRecord},
    run::{BackoffWaits, ClassCounts, RunMeasurements},
};

/// The moment `millis` milliseconds after the tests' runs started.
pub(crate) fn at(millis: u64) -> MonotonicTime {
    MonotonicTime::from_nanos((1_000_000 + millis) * 1_000_000)
}

/// Request `index`, due every 100 ms, sent 10 ms later; five tokens, 20 ms apart, the first after 200 ms.
pub(crate) fn record(index: u64) -> RequestRecord {
    let due = index * 100;
    RequestRecord {
        index,
        intended: at(due),
        sent: Some(at(due + 10)),
        connected: None,
        response_head: Some(at(due + 110)),
        first_content: Some(at(due + 210)),
        first_answer: Some(at(due + 210)),
        last_content: Some(at(due + 290)),
        closed: at(due + 291),
        server_wrote_first: None,
        prompt_tokens: 550,
        server_input_tokens: Some(551),
        server_output_tokens: Some(5),
        hidden_tokens: 0,
        client_output_tokens: None,
        chunks: 5,
        sent_again: false,
        status: 200,
        class: Class::Ok,
        thread: 0,
    }
}

/// Request `index`, answered with `status` and without content.
pub(crate) fn refused(index: u64, status: u16) -> RequestRecord {
    RequestRecord {
        first_content: None,
        first_answer: None,
        last_content: None,
        server_input_tokens: None,
        server_output_tokens: None,
        chunks: 0,
        status,
        class: Class::HttpError,
        ..record(index)
    }
}

/// The measurements of a run with these records and without a ramp, with a loop lag of up to 0.6 ms.
pub(crate) fn measurements(records: &[RequestRecord]) -> RunMeasurements {
    let mut classes = ClassCounts::default();
    for record in records {
        classes.count(record.class, 1);
    }
    let mut loop_lag = duration_histogram();
    loop_lag.record_n(600_000, 1000).unwrap();
    RunMeasurements {
        started_at: "2026-11-22T12:00:00Z".parse().unwrap(),
        started: at(0),
        ramp_end: at(0),
        last_begun: records.iter().filter_map(|record| record.sent).max(),
        ended: records.iter().map(|record| record.closed).max().unwrap_or(at(0)),
        scheduled: records.len() as u64,
        classes,
        icl_ramp: duration_histogram(),
        icl_steady: duration_histogram(),
        loop_lag,
        stamp_uncertainty: duration_histogram(),
        late_sends: duration_histogram(),
        streams: None,
        backoff_waits: BackoffWaits::default(),
        cpu_shares: vec![0.25],
        interrupted: false,
    }
}

/// A plan with LLMPerf's defaults.
pub(crate) fn plan() -> Plan {
    serde_json::from_value(serde_json::json!({
        "model": "meta-llama/Llama-3.1-8B",
        "api": "openai-chat",
        "workload": {
            "kind": "sonnets",
            "input_tokens": { "mean": 550.0, "stddev": 150.0 },
            "output_tokens": { "mean": 150.0, "stddev": 80.0 },
            "shared_prefix_tokens": 0,
            "distinct_prompts": 100,
        },
        "load": { "kind": "closed", "concurrency": 10, "ramp_up_s": 0.0 },
        "stop": { "send_for_s": 90.0, "max_requests": 100, "drain_s": 30.0 },
        "warmup_requests": 0,
        "slo": { "ttft_s": null, "tpot_s": null, "e2e_latency_s": null },
        "seed": 11111,
        "stream": true,
        "request_timeout_s": 180.0,
        "client_cores": 1,
        "sampling": { "temperature": 0.5 },
        "metadata": { "team": "blue" },
    }))
    .unwrap()
}

/// The header of the report of such a run.
pub(crate) fn header() -> ReportHeader {
    ReportHeader {
        run_id: "0193a5b0-0000-7000-8000-000000000000".to_owned(),
        workload: WorkloadSection {
            plan: plan(),
            tokenizer: "o200k_base".to_owned(),
            facts: serde_json::Map::new(),
        },
        version: "0.1.0".to_owned(),
        host: "test".to_owned(),
        started_at: "2026-11-22T12:00:00Z".parse().unwrap(),
        calibration: None,
    }
}

/// The contents of a journal with these records and without files.
pub(crate) fn recorded(records: Vec<RequestRecord>) -> RecordedRun {
    let settings = journal::JournalSettings {
        directory: None,
        record_chunks: false,
        started: at(0),
    };
    let (sender, journal) = Journal::start(settings, ()).unwrap();
    let finished = records.into_iter().map(|record| FinishedRequest {
        record,
        error: (record.class != Class::Ok).then(|| format!("status {}", record.status).into()),
        text: None,
        chunk_timestamps: None,
    });
    sender.send(finished.collect()).unwrap();
    drop(sender);
    journal.finish().unwrap().0
}
