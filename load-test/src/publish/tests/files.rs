//! What a results directory holds after a kill, a power cut, or another run.

use std::{fs, time::Duration};

use chrono::DateTime;

use super::{
    super::{
        MeasuredMetric, PUBLISHED_FILE, PublishError, RUN_FILE, batch_group::BatchGroup,
        publication_log::PublicationLog, publication_log::lines, resume,
    },
    fake::{DestinationReaction, Pipeline, Run, tear},
};
use crate::{journal::REQUESTS_FILE, report::fixtures::record};

const NOW: DateTime<chrono::Utc> = DateTime::UNIX_EPOCH;
const PATIENCE: Duration = Duration::from_secs(1);

fn of(requests: u64) -> Run {
    Run::new(0, Duration::ZERO, (0..requests).map(record).collect())
}

#[tokio::test(start_paused = true)]
async fn another_run_into_the_same_directory_is_published_by_itself() {
    let first = of(1500);
    first.carry_out(&Pipeline::default()).await.unwrap().unwrap();
    // The same directory, fewer requests, and nothing published of them.
    let second = Run {
        directory: first.directory,
        ..of(20)
    };
    let killed = Pipeline::scripted([DestinationReaction::Kills]);
    assert!(second.carry_out(&killed).await.is_none());
    let pipeline = Pipeline::default();
    resume(second.path(), &pipeline, NOW, PATIENCE).await.unwrap();
    assert_eq!(pipeline.values(MeasuredMetric::Ttft).len(), 20);
    assert_eq!(pipeline.values(MeasuredMetric::Rps), [10.0], "its rates, too");
}

#[tokio::test(start_paused = true)]
async fn a_directory_without_a_run_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let error = resume(directory.path(), &Pipeline::default(), NOW, PATIENCE)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, PublishError::File { path, .. } if path.ends_with(RUN_FILE)),
        "{error}"
    );
    fs::write(directory.path().join(RUN_FILE), "{}").unwrap();
    let error = resume(directory.path(), &Pipeline::default(), NOW, PATIENCE)
        .await
        .unwrap_err();
    assert!(error.to_string().contains(RUN_FILE), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_whole_and_not_ours_is_refused_with_its_number() {
    let run = of(2);
    run.carry_out(&Pipeline::default()).await.unwrap().unwrap();
    tear(&run.path().join(REQUESTS_FILE), "{\"index\": \"two\"}\n");
    let error = resume(run.path(), &Pipeline::default(), NOW, PATIENCE)
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Line { line: 3, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_killed_before_its_first_answer_has_nothing_to_publish() {
    let run = of(0);
    run.write_run_file();
    let pipeline = Pipeline::default();
    let published = resume(run.path(), &pipeline, NOW, PATIENCE).await.unwrap();
    assert_eq!((published.batches, pipeline.taken().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cut_whose_requests_are_gone_is_not_made_of_the_rest() {
    let run = of(10);
    run.carry_out(&Pipeline::default()).await.unwrap().unwrap();
    let path = run.path().join(REQUESTS_FILE);
    let text = fs::read_to_string(&path).unwrap();
    let four: String = text.split_inclusive('\n').take(4).collect();
    fs::write(&path, four).unwrap();
    let pipeline = Pipeline::default();
    resume(run.path(), &pipeline, NOW, PATIENCE).await.unwrap();
    assert!(
        pipeline.values(MeasuredMetric::Ttft).is_empty(),
        "four of ten would be counted twice"
    );
}

#[test]
fn the_log_is_cut_back_to_its_last_whole_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(PUBLISHED_FILE);
    let group: BatchGroup = serde_json::from_str(
        r#"{"sequence": 0, "timestamp": "2026-11-22T12:00:00.123456789Z", "portion": {"kind": "ended", "from": 0, "to": 7}}"#,
    )
    .unwrap();
    for torn in ["", "{", "{\"sequence\": 1, \"timest", "\u{e9}\u{e9}"] {
        tear(&path, torn);
        PublicationLog::open(Some(directory.path()))
            .unwrap()
            .append(&group)
            .unwrap();
    }
    let read: Vec<BatchGroup> = lines(&path, |line| serde_json::from_slice(line)).unwrap();
    assert_eq!(read, vec![group; 4]);
}

#[test]
fn a_line_that_is_torn_within_a_character_is_no_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(REQUESTS_FILE);
    fs::write(&path, b"1\n2\n\xc3").unwrap();
    let read: Vec<u8> = lines(&path, |line| serde_json::from_slice(line)).unwrap();
    assert_eq!(read, [1, 2]);
    assert!(
        lines(
            &directory.path().join("none"),
            |line| serde_json::from_slice::<u8>(line)
        )
        .unwrap()
        .is_empty()
    );
}
