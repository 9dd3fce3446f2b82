//! Which values are published: units of [`super::super::groups`].

use std::time::Duration;

use super::{
    super::{MeasuredMetric, batch_group::RequestFilter},
    fake::{Pipeline, Run, sorted},
};
use crate::{
    record::{Class, RequestRecord},
    report::fixtures::{at, record, refused},
};

async fn published(run: &Run) -> Pipeline {
    let pipeline = Pipeline::default();
    run.live(&pipeline, None).await.unwrap();
    pipeline
}

#[tokio::test(start_paused = true)]
async fn the_warm_up_the_ramp_and_failures_are_left_out() {
    // Sent at 10, 110, 210, ... ms.
    let records = vec![
        record(0),
        record(1),
        record(2),
        record(3),
        refused(4, 500),
        record(5),
    ];
    let pipeline = published(&Run::new(1, Duration::from_millis(150), records)).await;
    for (metric, expected) in [
        (MeasuredMetric::Ttft, 0.2),
        (MeasuredMetric::E2eLatency, 0.28),
        (MeasuredMetric::Tps, 5.0 / 0.28),
        (MeasuredMetric::Tpot, 0.02),
    ] {
        assert_eq!(pipeline.values(metric), [expected; 3], "{metric:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_only_a_ramp_is_published_without_rates_and_without_its_warm_up() {
    let run = Run::new(1, Duration::from_secs(60), (0..3).map(record).collect());
    let pipeline = published(&run).await;
    assert_eq!(pipeline.values(MeasuredMetric::Ttft), [0.2; 2]);
    assert!(pipeline.values(MeasuredMetric::Rps).is_empty());
}

#[tokio::test(start_paused = true)]
async fn failures_after_the_ramp_do_not_hide_the_ramps_answers() {
    let records = vec![record(0), refused(1, 500), refused(2, 500)];
    let pipeline = published(&Run::new(0, Duration::from_millis(50), records)).await;
    assert_eq!(pipeline.values(MeasuredMetric::Ttft), [0.2]);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_counted_late_are_published_late_and_once() {
    let uncounted = |index| RequestRecord {
        server_output_tokens: None,
        ..record(index)
    };
    let mut run = Run::new(0, Duration::ZERO, vec![record(0), uncounted(1), uncounted(2)]);
    // Request 0 is one of the sample that is counted to compare with the server: its own count stands.
    run.counted = [(0, 9), (1, 3)].into();
    let pipeline = published(&run).await;
    assert_eq!(pipeline.values(MeasuredMetric::Tps), [3.0 / 0.28, 5.0 / 0.28]);
    assert_eq!(pipeline.values(MeasuredMetric::Tpot), [0.02, 0.04]);
    assert_eq!(pipeline.values(MeasuredMetric::Ttft).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_figure_is_left_out_and_not_0() {
    let one_token = RequestRecord {
        server_output_tokens: Some(1),
        chunks: 1,
        ..record(0)
    };
    let no_content = RequestRecord {
        first_content: None,
        first_answer: None,
        last_content: None,
        ..record(1)
    };
    let pipeline = published(&Run::new(0, Duration::ZERO, vec![one_token, no_content])).await;
    assert!(pipeline.values(MeasuredMetric::Tpot).is_empty());
    assert_eq!(pipeline.values(MeasuredMetric::Ttft), [0.2]);
}

#[tokio::test(start_paused = true)]
async fn requests_completed_are_counted_by_whole_seconds_from_the_first_to_the_last_that_was_sent() {
    // Closed at 291, 391, ... ms, the last sent at 4910 ms: four whole seconds, ten requests in each.
    let run = Run::new(0, Duration::ZERO, (0..50).map(record).collect());
    assert_eq!(published(&run).await.values(MeasuredMetric::Rps), [10.0; 4]);
    // A second in which nothing was completed is a value, too.
    let apart = vec![record(0), record(1), record(45)];
    let rates = published(&Run::new(0, Duration::ZERO, apart)).await;
    assert_eq!(
        rates.values(MeasuredMetric::Rps),
        sorted(vec![2.0, 0.0, 0.0, 0.0])
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_registry_may_not_learn_is_left_out_alone() {
    let run = Run::new(0, Duration::ZERO, (0..20).map(record).collect());
    let pipeline = Pipeline {
        left_out: vec![MeasuredMetric::Tpot],
        ..Pipeline::default()
    };
    run.live(&pipeline, None).await.unwrap();
    assert!(pipeline.values(MeasuredMetric::Tpot).is_empty());
    assert_eq!(pipeline.values(MeasuredMetric::Tps).len(), 20);
}

#[test]
fn large_runs_are_finished_in_batches_that_a_message_takes() {
    let filter = RequestFilter {
        is_streamed: true,
        warmup_requests: 0,
        from: at(0),
    };
    let late = RequestRecord {
        server_output_tokens: None,
        client_output_tokens: Some(5),
        ..record(0)
    };
    let records = vec![late; 120_000];
    let contents = filter.late_groups(&records);
    let held: Vec<_> = contents
        .iter()
        .map(|content| content.of(&[], &records).len())
        .collect();
    assert_eq!(held, [50_000, 50_000, 20_000, 120_000], "the last are rates");
    let failed = RequestRecord {
        class: Class::Truncated,
        ..late
    };
    let only_failures = vec![failed; 60_000];
    assert_eq!(filter.late_groups(&only_failures).len(), 3);
}
