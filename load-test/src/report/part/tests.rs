use precise_time::MonotonicTime;
use proptest::prelude::*;

use super::*;
use crate::report::fixtures::{at, measurements, record, refused};

const SLO: Slo = Slo {
    ttft_s: Some(0.3),
    tpot_s: None,
    e2e_latency_s: None,
};

/// Any request that ends one way or another.
fn any_record(index: u64) -> impl Strategy<Value = RequestRecord> {
    let ended = (
        0..7_usize,
        1..2_000_u64,
        0..5_000_u64,
        prop::option::of(0..300_u32),
    );
    ended.prop_map(move |(class, ttft, rest, tokens)| {
        let sent = at(index * 20);
        let after = |millis| Some(MonotonicTime::from_nanos(sent.as_nanos() + millis * 1_000_003));
        RequestRecord {
            class: RequestTotals::default().by_class()[class].0,
            intended: sent,
            sent: Some(sent),
            first_content: after(ttft),
            first_answer: after(ttft),
            last_content: after(ttft + rest),
            closed: at(index * 20 + ttft + 2 * rest),
            server_output_tokens: tokens,
            ..record(index)
        }
    })
}

fn any_run() -> impl Strategy<Value = Vec<RequestRecord>> {
    (0..60_u64).prop_flat_map(|n| (0..n).map(any_record).collect::<Vec<_>>())
}

fn part_of(window: &Window, measurements: &RunMeasurements, records: &[RequestRecord]) -> RunPart {
    let inputs = PartInputs {
        measurements,
        started: at(0),
        window,
        slo: &SLO,
        is_streamed: true,
        scheduled: records.len() as u64,
        calibration: None,
        limits: &ErrorLimits::default(),
    };
    RunPart::new(&inputs, records, |_| Some("refused"))
}

fn through_json(part: &RunPart) -> RunPart {
    serde_json::from_str(&serde_json::to_string(part).unwrap()).unwrap()
}

proptest! {
    // Each case writes and reads some thirty histograms.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn however_split_the_parts_merge_to_the_whole(
        records in any_run(),
        owners in prop::collection::vec(0..3_usize, 60),
        warmup in 0..5_u64,
    ) {
        let measurements = measurements(&records);
        let window = Window::choose(&records, warmup, &measurements);
        let whole = part_of(&window, &measurements, &records);
        let parts: Vec<_> = (0..3)
            .map(|owner| {
                let own: Vec<_> = records
                    .iter()
                    .zip(&owners)
                    .filter(|(_, o)| **o == owner)
                    .map(|(record, _)| *record)
                    .collect();
                through_json(&part_of(&window, &measurements, &own))
            })
            .collect();

        let merged = |order: [usize; 3]| {
            let mut first = parts[order[0]].clone();
            first.merge(&parts[order[1]]);
            first.merge(&parts[order[2]]);
            first
        };
        let mut right = parts[1].clone();
        right.merge(&parts[2]);
        let mut nested = parts[0].clone();
        nested.merge(&right);
        prop_assert_eq!(&merged([0, 1, 2]), &nested);
        prop_assert_eq!(&merged([2, 0, 1]), &nested);

        // The window and what is not of requests is the same in all three parts here.
        prop_assert_eq!(nested.windows.length_s(), whole.windows.length_s());
        let same_but_windows = RunPart { windows: whole.windows, ..nested };
        prop_assert_eq!(same_but_windows, whole);
    }

    #[test]
    fn every_request_is_in_exactly_one_class(records in any_run(), warmup in 0..80_u64) {
        let measurements = measurements(&records);
        let window = Window::choose(&records, warmup, &measurements);
        let part = part_of(&window, &measurements, &records);
        prop_assert!(part.requests.balance());
        prop_assert_eq!(part.requests.scheduled + part.warmup_requests, records.len() as u64);
        prop_assert!(part.good <= part.requests.ok && part.completed <= part.requests.ok);
        let failed: u64 = part.errors.values().map(|error| error.count).sum();
        prop_assert_eq!(part.requests.ok + failed, part.requests.scheduled);
    }
}

#[test]
fn gaps_of_the_ramp_count_only_for_the_whole_run() {
    let records: Vec<_> = (0..100).map(record).collect();
    let mut measurements = measurements(&records);
    measurements.icl_ramp.record(1_000_000).unwrap();
    measurements.icl_steady.record(2_000_000).unwrap();
    let icl = |ramp_ms| {
        let measurements = RunMeasurements {
            ramp_end: at(ramp_ms),
            ..measurements.clone()
        };
        let window = Window::choose(&records, 0, &measurements);
        part_of(&window, &measurements, &records).icl.len()
    };
    assert_eq!((icl(1_000), icl(60_000)), (1, 2));
}

#[test]
fn an_answer_that_was_not_streamed_has_no_first_token() {
    let records: Vec<_> = (0..10).map(record).collect();
    let measurements = measurements(&records);
    let window = Window::choose(&records, 0, &measurements);
    let inputs = PartInputs {
        measurements: &measurements,
        started: at(0),
        window: &window,
        slo: &SLO,
        is_streamed: false,
        scheduled: 10,
        calibration: None,
        limits: &ErrorLimits::default(),
    };
    let samples = RunPart::new(&inputs, &records, |_| None).samples;
    for without in [
        &samples.ttft_s,
        &samples.ttft_from_intended_s,
        &samples.ttfo_s,
        &samples.tpot_s,
    ] {
        assert_eq!(without.distribution().n, 0);
    }
    assert!(samples.e2e_latency_s.distribution().n > 0);
}

#[test]
fn failures_of_one_kind_are_one_with_a_sample() {
    let records = [refused(0, 429), refused(1, 429), refused(2, 500)];
    let measurements = measurements(&records);
    let window = Window::choose(&records, 0, &measurements);
    let errors = part_of(&window, &measurements, &records).errors;
    let summary: Vec<_> = errors
        .values()
        .map(|error| (error.status, error.count, error.sample.as_deref()))
        .collect();
    assert_eq!(
        summary,
        [(Some(429), 2, Some("refused")), (Some(500), 1, Some("refused"))]
    );
}
