use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    record::RequestRecord,
    report::{Inputs, fixtures},
    verdict::{ErrorLimits, Verdict},
    workers::{Share, contribution},
};

fn asked(workers: u32) -> Coordination {
    Coordination {
        run_id: "run".to_owned(),
        plan: fixtures::plan(),
        workers: NonZeroU32::new(workers).unwrap(),
        worker_timeout: Duration::from_secs(60),
        tokenizer_id: None,
        calibrate: false,
        stream_usage: true,
    }
}

fn made() -> Made {
    Made {
        tokenizer: "words".to_owned(),
        prompts: String::new(),
        facts: serde_json::Map::new(),
    }
}

fn name(share: Share) -> WorkerName {
    WorkerName {
        name: format!("w{}", share.number()),
        host: format!("host{}", share.number() % 2),
        cores: 3,
        version: "0".to_owned(),
    }
}

fn contribution(records: Vec<RequestRecord>, warmup_requests: u64) -> Contribution {
    let facts = fixtures::facts(&records);
    let recorded = fixtures::recorded(records);
    let mut header = fixtures::header();
    header.workload.plan.warmup_requests = warmup_requests;
    Contribution::new(&Inputs {
        header,
        facts: &facts,
        recorded: &recorded,
        limits: ErrorLimits::default(),
    })
}

fn record(index: u64) -> RequestRecord {
    if index.is_multiple_of(7) {
        fixtures::refused(index, if index.is_multiple_of(2) { 429 } else { 500 })
    } else {
        fixtures::record(index)
    }
}

fn merged(
    workers: u32,
    requests: u64,
    warmup: u64,
    is_lost: impl Fn(Share) -> bool,
) -> Result<Merged, CoordinateError> {
    let asked = asked(workers);
    let (mut sections, mut contributions) = (Vec::new(), Vec::new());
    for share in Share::all(asked.workers) {
        let worker = name(share);
        if is_lost(share) {
            sections.push(contribution::lost(&worker, share, "gone".to_owned()));
            continue;
        }
        let own = (0..share.count(requests)).map(|own| record(share.position(own)));
        let contribution = contribution(own.collect(), warmup);
        sections.push(contribution.section(&worker, share, Some(0.25)));
        contributions.push((worker, contribution));
    }
    let started_at = fixtures::header().started_at;
    Merged::new(&asked, made(), started_at, sections, contributions)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever a report has of all requests alike, it has of their shares.
    #[test]
    fn shares_merge_to_what_one_load_generator_says(
        workers in 1_u32..5, requests in 40_u64..80, warmup in 0_u64..10,
    ) {
        let merged = merged(workers, requests, warmup, |_| false).unwrap();
        let report = merged.report("0");
        let whole = contribution((0..requests).map(record).collect(), warmup);
        prop_assert_eq!(report.requests, whole.part.requests);
        prop_assert_eq!(report.warmup_requests, warmup);
        prop_assert!(report.requests.balance());
        prop_assert_eq!(report.client.cores, 3 * workers);
        prop_assert_eq!(report.errors.iter().map(|error| error.count).sum::<u64>(), whole.part.requests.http_error);

        let keys = ["num_requests_started", "error_rate", "number_errors", "ttft_s_mean", "ttft_s_quantiles_p50",
            "end_to_end_latency_s_stddev", "number_output_tokens_max", "num_completed_requests_per_min"];
        let summary = |llmperf: &LlmPerfPart| -> serde_json::Value {
            serde_json::from_str(&llmperf.summary(&fixtures::plan(), 0).content).unwrap()
        };
        let (of_shares, of_whole) = (summary(merged.llmperf()), summary(&whole.llmperf));
        for key in keys.iter().filter(|key| !key.ends_with("per_min") || workers == 1) {
            let key = format!("results_{key}");
            prop_assert_eq!(&of_shares[&key], &of_whole[&key], "{}", key);
        }
    }
}

#[test]
fn a_lost_worker_makes_the_run_invalid_and_is_named() {
    let report = merged(3, 30, 0, |share| share.number() == 1).unwrap().report("0");
    let said = "Worker w1 on host1 was lost, and share 2 of 3 is missing in all figures: gone";
    assert_eq!(report.problems, [said]);
    assert_eq!(report.client_error.verdict, Verdict::Invalid);
    assert!(report.client_error.reasons.contains(&said.to_owned()));
    assert_eq!((report.requests.scheduled, report.workers.len()), (20, 3));
    assert_eq!(report.client.host, "host0, host1");
    let text = crate::report::text::summary(&report);
    assert!(
        text.contains("worker    w1 on host1 (3 cores), share 2 of 3: LOST: gone"),
        "{text}"
    );
    assert!(
        text.contains("share 1 of 3: 10 scheduled, 8 ok, began within 250 ms, VALID"),
        "{text}"
    );
}

#[test]
fn nothing_is_left_where_all_are_lost() {
    let error = merged(2, 20, 0, |_| true).unwrap_err().to_string();
    assert!(
        error.starts_with("all workers were lost: Worker w0 on host0 was lost"),
        "{error}"
    );
}

#[test]
fn reasons_say_whose_they_are() {
    let mut contribution = contribution((0..20).map(record).collect(), 0);
    contribution.part.client_error.invalidate("Too slow.".to_owned());
    let share = Share::WHOLE;
    let section = contribution.section(&name(share), share, None);
    let started_at = fixtures::header().started_at;
    let contributions = vec![(name(share), contribution)];
    let merged = Merged::new(&asked(1), made(), started_at, vec![section], contributions).unwrap();
    assert_eq!(merged.report("0").client_error.reasons, ["w0: Too slow."]);
}
