//! A pipeline that is away, refuses, or does not answer.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    super::{MeasuredMetric, PublishError, REQUESTS_PER_GROUP, resume},
    fake::{DestinationReaction, Pipeline, Run},
};
use crate::report::fixtures::record;

/// `seconds` long, a hundred requests a second.
fn run(seconds: u64) -> Run {
    let mut run = Run::new(0, Duration::ZERO, Vec::new());
    run.chunks = (0..seconds * 10)
        .map(|chunk| {
            let records = (chunk * 10..chunk * 10 + 10).map(record).collect();
            (Duration::from_millis(100), records)
        })
        .collect();
    run
}

#[tokio::test(start_paused = true)]
async fn few_requests_are_published_after_seconds_not_at_the_end() {
    // The last answer to the script is the run's fifth second; it is still going on then.
    let (run, pipeline) = (
        run(30),
        Pipeline::scripted([DestinationReaction::Takes, DestinationReaction::TakesAndKills]),
    );
    let begun = Instant::now();
    assert!(
        run.carry_out(&pipeline).await.is_none(),
        "killed at its second group"
    );
    let lasted = begun.elapsed();
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(11)).contains(&lasted),
        "{lasted:?}"
    );
    let values = pipeline.values(MeasuredMetric::Ttft).len();
    assert!((900..=1100).contains(&values), "{values} of 3000");
}

#[tokio::test(start_paused = true)]
async fn many_requests_are_published_by_the_thousand() {
    let requests = 3 * REQUESTS_PER_GROUP as u64 + 1;
    let run = Run::new(0, Duration::ZERO, (0..requests).map(record).collect());
    let pipeline = Pipeline::default();
    run.live(&pipeline, None).await.unwrap();
    let taken = pipeline.taken();
    let mut sizes: Vec<_> = taken
        .values()
        .filter(|batch| batch.metric().as_str() == "ttft")
        .map(|batch| batch.values().len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1000, 1000, 1000]);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_is_away_for_a_while_gets_everything_in_the_end() {
    let script = [DestinationReaction::IsAway, DestinationReaction::TakesAndIsAway].repeat(5);
    let (run, pipeline) = (run(20), Pipeline::scripted(script));
    let published = run.live(&pipeline, None).await.unwrap();
    assert_eq!(pipeline.values(MeasuredMetric::Ttft).len(), 2000);
    let taken = pipeline.taken();
    let values: usize = taken.values().map(|batch| batch.values().len()).sum();
    assert_eq!(
        (published.batches, published.values),
        (taken.len() as u64, values as u64),
        "said is what arrived"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_stays_away_ends_the_patience_and_what_was_measured_can_be_published_later() {
    for deed in [DestinationReaction::IsAway, DestinationReaction::Hangs] {
        let run = run(20);
        let pipeline = Pipeline {
            afterwards: Some(deed),
            ..Pipeline::default()
        };
        let begun = Instant::now();
        let error = run.carry_out(&pipeline).await.unwrap().unwrap_err();
        assert!(error.is_transient(), "{error}");
        let expected = if deed == DestinationReaction::Hangs {
            "in time"
        } else {
            "503"
        };
        assert!(error.to_string().contains(expected), "{error}");
        let lasted = begun.elapsed();
        assert!(
            (Duration::from_secs(80)..Duration::from_secs(82)).contains(&lasted),
            "20 s and then 60 s of patience, not {lasted:?}"
        );
        let healthy = Pipeline::default();
        resume(
            run.path(),
            &healthy,
            chrono::DateTime::UNIX_EPOCH,
            Duration::from_secs(1),
        )
        .await
        .unwrap();
        assert_eq!(healthy.values(MeasuredMetric::Ttft).len(), 2000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_refuses_is_not_asked_again() {
    for script in [
        vec![DestinationReaction::Refuses],
        vec![DestinationReaction::IsAway, DestinationReaction::Refuses],
    ] {
        let (run, pipeline) = (run(20), Pipeline::scripted(script));
        let error = run.live(&pipeline, None).await.unwrap_err();
        assert!(
            matches!(error, PublishError::Answer { status: 422, .. }),
            "{error}"
        );
        assert!(pipeline.taken().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_run_waits_for_no_pause() {
    // Away at 5 s and, after growing pauses, at 8 s: the next attempt would come at 11.2 s, and the run ends before.
    let (run, pipeline) = (run(9), Pipeline::scripted([DestinationReaction::IsAway; 5]));
    let begun = Instant::now();
    run.live(&pipeline, None).await.unwrap();
    let lasted = begun.elapsed();
    assert!(lasted < Duration::from_millis(9_300), "{lasted:?}");
}
