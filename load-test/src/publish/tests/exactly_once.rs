//! Over any interleaving of what ends, of groups and of kills: every value once.

use std::{collections::BTreeMap, time::Duration};

use chrono::DateTime;
use proptest::prelude::*;

use super::{
    super::{MeasuredMetric, PUBLISHED_FILE, resume},
    fake::{DestinationReaction, Pipeline, Run, sorted, tear},
};
use crate::{
    journal::REQUESTS_FILE,
    record::{Class, RequestRecord},
    report::fixtures::{at, record, refused},
};

const PATIENCE: Duration = Duration::from_secs(60);
const PER_REQUEST: [MeasuredMetric; 4] = [
    MeasuredMetric::Ttft,
    MeasuredMetric::E2eLatency,
    MeasuredMetric::Tps,
    MeasuredMetric::Tpot,
];

/// A request by itself: how it ended, who counted its tokens, and nanoseconds that no round numbers hide.
fn request(index: u64) -> impl Strategy<Value = (RequestRecord, Option<u32>)> {
    (0..6_u8, 0..4_u32, 1..1_000_000_u64).prop_map(move |(kind, tokens, nanos)| {
        let whole = record(index);
        let later = |moment: Option<precise_time::MonotonicTime>| {
            moment.map(|moment| moment + Duration::from_nanos(nanos))
        };
        let answered = RequestRecord {
            first_content: later(whole.first_content),
            last_content: later(later(whole.last_content)),
            server_output_tokens: Some(tokens),
            ..whole
        };
        let uncounted = RequestRecord {
            server_output_tokens: None,
            ..answered
        };
        match kind {
            0 => (refused(index, 500), None),
            1 => (
                RequestRecord {
                    class: Class::Dropped,
                    sent: None,
                    ..refused(index, 0)
                },
                None,
            ),
            2 => (uncounted, Some(tokens)),
            3 => (uncounted, None),
            _ => (answered, None),
        }
    })
}

fn reaction() -> impl Strategy<Value = DestinationReaction> {
    prop_oneof![
        4 => Just(DestinationReaction::Takes),
        1 => Just(DestinationReaction::IsAway),
        1 => Just(DestinationReaction::TakesAndIsAway),
        1 => Just(DestinationReaction::Kills),
        1 => Just(DestinationReaction::TakesAndKills),
    ]
}

/// Requests that end in any order, in chunks of any size with any pauses.
fn run() -> impl Strategy<Value = Run> {
    let requests = (0..40_u64)
        .prop_flat_map(|count| (0..count).map(request).collect::<Vec<_>>())
        .prop_shuffle();
    let pauses = prop::collection::vec((0..7_000_u64, 1..12_usize), 1..12);
    // Of the ramp are none, some or all of the requests.
    let ramp_ms = prop_oneof![Just(0_u64), 1..3_000_u64, Just(60_000)];
    (requests, pauses, 0..4_u64, ramp_ms).prop_map(|(requests, pauses, warmup, ramp_ms)| {
        let mut run = Run::new(warmup, Duration::from_millis(ramp_ms), Vec::new());
        let counted = requests
            .iter()
            .filter_map(|(record, tokens)| Some((record.index, (*tokens)?)));
        run.counted = counted.collect();
        let mut records = requests.into_iter().map(|(record, _)| record);
        run.chunks = pauses
            .iter()
            .map(|(pause, size)| {
                (
                    Duration::from_millis(*pause),
                    records.by_ref().take(*size).collect(),
                )
            })
            .collect();
        run.chunks.push((Duration::ZERO, records.collect()));
        run
    })
}

/// What is to be published of these requests, by the definitions and without groups.
fn expected(run: &Run, records: &[RequestRecord]) -> BTreeMap<MeasuredMetric, Vec<f64>> {
    let after_warmup = |record: &&RequestRecord| record.index >= run.plan.warmup_requests;
    let answered = |record: &&RequestRecord| record.class == Class::Ok;
    let ramp_end = at(0) + run.plan.load.ramp_up();
    let all: Vec<_> = records.iter().filter(after_warmup).filter(answered).collect();
    let steady: Vec<_> = all
        .iter()
        .copied()
        .filter(|record| record.sent >= Some(ramp_end))
        .collect();
    let counted = if steady.is_empty() { all } else { steady };
    let seconds = |from: Option<precise_time::MonotonicTime>, to: Option<precise_time::MonotonicTime>| {
        Duration::from_nanos(to.unwrap().as_nanos() - from.unwrap().as_nanos()).as_secs_f64()
    };
    let value = |metric, record: &RequestRecord| {
        let tokens = record.server_output_tokens.or(record.client_output_tokens);
        let e2e = seconds(record.sent, record.last_content);
        match metric {
            MeasuredMetric::Ttft => Some(seconds(record.sent, record.first_content)),
            MeasuredMetric::E2eLatency => Some(e2e),
            MeasuredMetric::Tps => Some(f64::from(tokens?) / e2e),
            _ => {
                let gaps = tokens?.checked_sub(1).filter(|gaps| *gaps > 0)?;
                Some(seconds(record.first_content, record.last_content) / f64::from(gaps))
            }
        }
    };
    PER_REQUEST
        .map(|metric| {
            let values = counted.iter().filter_map(|record| value(metric, record));
            (metric, sorted(values.collect()))
        })
        .into()
}

fn published(pipeline: &Pipeline) -> BTreeMap<MeasuredMetric, Vec<f64>> {
    PER_REQUEST.map(|metric| (metric, pipeline.values(metric))).into()
}

fn requests_written(run: &Run) -> Vec<RequestRecord> {
    super::super::publication_log::lines(&run.path().join(REQUESTS_FILE), |line| {
        Ok(serde_json::from_slice::<crate::journal::RequestLine<'_>>(line)?.record(at(0)))
    })
    .unwrap()
}

async fn resumed(run: &Run, pipeline: &Pipeline, now_s: i64) {
    let now = DateTime::from_timestamp(now_s, 0).unwrap();
    resume(run.path(), pipeline, now, PATIENCE).await.unwrap();
}

async fn every_value_arrives_once(run: &Run, script: Vec<DestinationReaction>) -> Result<(), TestCaseError> {
    let pipeline = Pipeline::scripted(script);
    let live = run.carry_out(&pipeline).await;
    let was_killed = live.is_none();
    if let Some(live) = live {
        live.unwrap();
        prop_assert_eq!(published(&pipeline), expected(run, &run.records()));
        let again = Pipeline::default();
        resumed(run, &again, 0).await;
        prop_assert_eq!(again.taken(), pipeline.taken(), "the same batches from the files");
    } else {
        for file in [REQUESTS_FILE, PUBLISHED_FILE] {
            tear(&run.path().join(file), "{\"index\": 3, \"seq");
        }
    }
    // Killed again and again while it publishes the rest; the clock shows another time each time.
    let mut now_s = 1;
    while pipeline.killed_in(resumed(run, &pipeline, now_s)).await {
        now_s += 1;
    }
    let written = requests_written(run);
    prop_assert_eq!(published(&pipeline), expected(run, &written));
    if !was_killed {
        prop_assert_eq!(written.len(), run.records().len());
    }
    let taken = pipeline.taken();
    pipeline.script.lock().unwrap().clear();
    resumed(run, &pipeline, now_s + 1).await;
    prop_assert_eq!(pipeline.taken(), taken, "a repetition changes nothing");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn over_any_interleaving(run in run(), script in prop::collection::vec(reaction(), 0..14)) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(every_value_arrives_once(&run, script))?;
    }
}
