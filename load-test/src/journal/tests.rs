use std::{fs, num::NonZeroUsize, path::Path};

use super::*;
use crate::{
    record::{Class, RequestRecord},
    report::fixtures::{at, record, refused},
};

fn settings(directory: &Path) -> JournalSettings {
    JournalSettings {
        directory: Some(directory.to_owned()),
        record_chunks: true,
        started: at(0),
    }
}

fn ended(record: RequestRecord) -> FinishedRequest {
    FinishedRequest {
        record,
        error: (record.class != Class::Ok).then(|| "too busy".into()),
        text: Some("to be or not to be".into()),
        chunk_timestamps: Some([at(record.index), at(record.index + 1)].into()),
    }
}

fn words(text: &str) -> u32 {
    u32::try_from(text.split_whitespace().count()).unwrap()
}

fn lines(directory: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(directory.join(REQUESTS_FILE)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[derive(Default)]
struct Seen(Vec<u64>);

impl JournalSubscriber for Seen {
    fn finished(&mut self, finished: &[FinishedRequest]) {
        self.0.extend(finished.iter().map(|ended| ended.record.index));
    }
}

#[test]
fn every_request_is_written_remembered_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, journal) = Journal::start(settings(directory.path()), Seen::default()).unwrap();
    let other = sender.clone();
    sender.send(vec![ended(record(3)), ended(record(1))]).unwrap();
    other
        .send(vec![ended(refused(2, 429)), ended(record(0))])
        .unwrap();
    drop((sender, other));
    let (recorded, seen) = journal.finish().unwrap();
    assert_eq!(seen.0, [3, 1, 2, 0]);
    let indices: Vec<_> = recorded.records.iter().map(|record| record.index).collect();
    assert_eq!(indices, [0, 1, 2, 3], "in the order of the schedule");
    assert_eq!(
        (recorded.errors.of(2), recorded.errors.of(0)),
        (Some("too busy"), None)
    );
    assert!(recorded.problems.is_empty());

    let lines = lines(directory.path());
    assert_eq!(
        lines
            .iter()
            .map(|line| line["index"].as_u64())
            .collect::<Vec<_>>(),
        [Some(3), Some(1), Some(2), Some(0)],
        "in the order in which they ended"
    );
    assert_eq!(
        (&lines[2]["class"], &lines[2]["status"], &lines[2]["error"]),
        (&"http_error".into(), &429.into(), &"too busy".into())
    );
    let chunks = fs::read_to_string(directory.path().join(CHUNKS_FILE)).unwrap();
    assert_eq!(
        chunks.lines().next(),
        Some(r#"{"index":3,"chunks_s":[0.003,0.004]}"#)
    );
}

#[test]
fn lines_are_in_the_file_while_the_run_goes_on() {
    struct Check(PathBuf);
    impl JournalSubscriber for Check {
        fn finished(&mut self, finished: &[FinishedRequest]) {
            let written = lines(&self.0);
            let last = finished.last().unwrap().record.index;
            assert_eq!(
                written.last().unwrap()["index"],
                last,
                "a kill now would lose nothing"
            );
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let check = Check(directory.path().to_owned());
    let (sender, journal) = Journal::start(settings(directory.path()), check).unwrap();
    for index in 0..20 {
        sender.send(vec![ended(record(index))]).unwrap();
    }
    drop(sender);
    assert_eq!(journal.finish().unwrap().0.records.len(), 20);
}

#[test]
fn answers_that_were_handed_over_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, journal) = Journal::start(settings(directory.path()), ()).unwrap();
    let requests = (0..20).map(|index| FinishedRequest {
        text: (index % 10 == 7).then(|| "to be or not to be".into()),
        ..ended(record(index))
    });
    sender.send(requests.collect()).unwrap();
    drop(sender);
    let (mut recorded, ()) = journal.finish().unwrap();
    assert_eq!(recorded.texts.len(), 2);
    recorded.count_tokens(|text| Some(words(text)), NonZeroUsize::new(2).unwrap());
    assert!(recorded.problems.is_empty(), "{:?}", recorded.problems);
    let counted: Vec<_> = recorded
        .records
        .iter()
        .filter_map(|record| Some((record.index, record.client_output_tokens?)))
        .collect();
    assert_eq!(counted, [(7, 6), (17, 6)]);
    let written: Vec<_> = lines(directory.path())
        .iter()
        .filter(|line| line["client_output_tokens"] == 6)
        .map(|line| line["index"].as_u64().unwrap())
        .collect();
    assert_eq!(written, [7, 17]);
    let left: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "no temporary file is left: {left:?}");
}

#[test]
fn a_file_that_vanished_is_a_problem_not_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let (sender, journal) = Journal::start(settings(directory.path()), ()).unwrap();
    sender.send(vec![ended(record(0))]).unwrap();
    drop(sender);
    let (mut recorded, ()) = journal.finish().unwrap();
    fs::remove_file(directory.path().join(REQUESTS_FILE)).unwrap();
    recorded.count_tokens(|text| Some(words(text)), NonZeroUsize::MIN);
    assert_eq!(recorded.records[0].client_output_tokens, Some(6));
    assert!(matches!(recorded.problems[..], [JournalError::Rewrite { .. }]));
}

#[test]
fn without_a_directory_nothing_is_written_and_everything_remembered() {
    let settings = JournalSettings {
        directory: None,
        record_chunks: true,
        started: at(0),
    };
    let (sender, journal) = Journal::start(settings, ()).unwrap();
    sender.send(vec![ended(refused(0, 500))]).unwrap();
    drop(sender);
    let (recorded, ()) = journal.finish().unwrap();
    assert_eq!((recorded.records.len(), recorded.texts.len()), (1, 1));
}

#[test]
fn a_directory_that_is_not_there_is_found_out_before_the_run() {
    let error = Journal::start(settings(Path::new("/nonexistent")), ()).unwrap_err();
    assert_eq!(error.to_string(), "cannot create /nonexistent/requests.jsonl");
}

#[test]
fn a_follower_that_panics_is_an_error() {
    struct Broken;
    impl JournalSubscriber for Broken {
        fn finished(&mut self, _finished: &[FinishedRequest]) {
            panic!("on purpose");
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let (sender, journal) = Journal::start(settings(directory.path()), Broken).unwrap();
    sender.send(vec![ended(record(0))]).unwrap();
    drop(sender);
    let error = journal.finish().err().unwrap();
    assert_eq!(error.to_string(), "the journal's thread panicked: on purpose");
}
