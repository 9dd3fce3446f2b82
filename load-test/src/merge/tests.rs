use std::{fs, path::Path};

use chrono::TimeDelta;
use proptest::prelude::*;
use shared_types::ErrorChain;

use super::*;
use crate::{
    journal::{REQUESTS_FILE, RequestLine},
    record::RequestRecord,
    report::{ReportInputs, build, fixtures, model::Report, text},
    share_file::{ClockReading, ClockReadings, SHARE_FILE, ShareFileError},
    verdict::{ErrorLimits, Verdict},
};

fn record(index: u64) -> RequestRecord {
    if index.is_multiple_of(7) {
        fixtures::refused(index, if index.is_multiple_of(2) { 429 } else { 500 })
    } else {
        fixtures::record(index)
    }
}

fn clock(is_synchronised: bool, max_error_s: f64) -> Option<ClockReading> {
    Some(ClockReading {
        is_synchronised,
        max_error_s,
        estimated_error_s: 0.0,
    })
}

fn with_inputs<T>(
    records: Vec<RequestRecord>,
    warmup_requests: u64,
    of: impl FnOnce(ReportInputs<'_>) -> T,
) -> T {
    let mut header = fixtures::header();
    header.workload.plan.warmup_requests = warmup_requests;
    of(ReportInputs {
        header,
        measurements: &fixtures::measurements(&records),
        recorded: &fixtures::recorded(records),
        limits: ErrorLimits::default(),
    })
}

/// A run of so many requests, one every 100 ms, as so many shares; every seventh request is refused.
fn shares(count: u32, requests: u64, warmup: u64) -> Vec<FinishedShare> {
    let finished = |share: Share| {
        let own = (0..share.requests(requests)).map(|own| record(share.position(own)));
        let records: Vec<_> = own.collect();
        let readings = ClockReadings {
            at_start: clock(true, 0.001),
            at_end: clock(true, 0.002),
        };
        let file = with_inputs(records.clone(), warmup, |mut inputs| {
            inputs.header.run_id = format!("own run of {share}");
            inputs.header.host = format!("host-{share}");
            ShareFile::new(&inputs, share, "prompts".to_owned(), readings)
        });
        let started = finished::on_wall_clock(file.started_at);
        let moved = |record: &RequestRecord| RequestLine::new(record, None, fixtures::at(0)).record(started);
        FinishedShare {
            directory: format!("dir-{}", share.to_string().replace('/', "-of-")).into(),
            records: records.iter().map(moved).collect(),
            errors: records
                .iter()
                .filter(|record| record.status != 200)
                .map(|record| (record.index, format!("status {}", record.status)))
                .collect(),
            file,
        }
    };
    Share::all(NonZeroU32::new(count).unwrap())
        .map(finished)
        .collect()
}

fn merged(shares: Vec<FinishedShare>) -> Merged {
    Merged::new(shares, "0.1.0", None).unwrap()
}

/// What makes the report of three shares invalid that were changed like this.
fn reasons(change: impl FnOnce(&mut Vec<FinishedShare>)) -> Vec<String> {
    let mut shares = shares(3, 60, 0);
    change(&mut shares);
    let report = merged(shares).report;
    assert_eq!(
        report.client_error.reasons.is_empty(),
        report.client_error.verdict == Verdict::Valid
    );
    report.client_error.reasons
}

/// One reason, with these words.
fn assert_reason(words: &[&str], change: impl FnOnce(&mut Vec<FinishedShare>)) {
    let reasons = reasons(change);
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    for word in words {
        assert!(reasons[0].contains(word), "{word} is not in {reasons:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever a report has of all requests alike, it has of their shares: to the last bit, in any order. There are enough requests
    /// for the windows of four shares, which begin 100 ms apart, to have 90 % in common.
    #[test]
    fn shares_merge_to_the_report_of_one_process(count in 1_u32..5, requests in 100_u64..160, warmup in 0_u64..10) {
        let one = merged(shares(count, requests, warmup));
        let mut reversed = shares(count, requests, warmup);
        reversed.reverse();
        prop_assert_eq!(&merged(reversed).report, &one.report);

        let all: Vec<_> = (0..requests).map(record).collect();
        let whole = with_inputs(all.clone(), warmup, build);
        let figures = |report: &Report| [report.ttft_s, report.ttft_from_intended_s, report.ttfo_s, report.tpot_s, report.icl_s,
            report.e2e_latency_s, report.e2e_from_intended_s, report.tps, report.prompt_tokens, report.output_tokens];
        prop_assert_eq!(figures(&one.report), figures(&whole));
        prop_assert_eq!(one.report.requests, whole.requests);
        prop_assert_eq!(one.report.warmup_requests, whole.warmup_requests);
        prop_assert_eq!(one.report.token_accounting, whole.token_accounting);
        prop_assert_eq!(&one.report.errors, &whole.errors);
        prop_assert!(one.is_complete && one.report.is_valid(), "{:?}", one.report.client_error);
        prop_assert_eq!(one.report.workload.plan.client_cores.get(), count);

        let relative = |records: &[RequestRecord], started| -> Vec<RequestRecord> {
            let moved = |record: &RequestRecord| RequestLine::new(record, None, started).record(fixtures::at(0));
            records.iter().map(moved).collect()
        };
        prop_assert_eq!(relative(&one.records, one.started), all);
        prop_assert_eq!(one.errors.of(7), Some("status 500"));
    }
}

#[test]
fn the_summary_names_the_shares() {
    let report = merged(shares(2, 40, 0)).report;
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    let summary = text::summary(&report);
    let line = "share     1/2 on host-1/2 (1 cores): 20 scheduled, 17 ok, clock ± 2 ms, VALID";
    assert!(summary.contains(line), "{summary}");
    assert!(summary.ends_with("VALID"), "{summary}");
    assert_eq!(
        (report.client.shares, report.client.host.as_str()),
        (2, "host-0/2, host-1/2")
    );
}

#[test]
fn a_missing_share_is_named() {
    assert_reason(&["Share 1/3 is missing"], |shares| drop(shares.remove(1)));
    let mut two = shares(3, 60, 0);
    two.pop();
    let merged = merged(two);
    assert!(!merged.is_complete);
    assert_eq!(merged.report.problems, ["Share 2/3 is missing in all figures."]);
    assert_eq!(merged.report.requests.scheduled, 40);
}

#[test]
fn a_share_that_is_there_twice_counts_once() {
    let twice = |shares: &mut Vec<FinishedShare>| {
        let mut again = self::shares(3, 60, 0).remove(1);
        again.directory = "again".into();
        shares.push(again);
    };
    assert_reason(
        &["Share 1/3 is there twice", "dir-1-of-3", "again", "expected once"],
        twice,
    );
    let mut four = shares(3, 60, 0);
    twice(&mut four);
    let merged = merged(four);
    assert!(!merged.is_complete);
    assert_eq!((merged.report.requests.scheduled, merged.records.len()), (60, 60));
}

#[test]
fn a_share_of_another_run_is_left_out() {
    type Change = fn(&mut ShareFile);
    let cases: [(Change, &str); 4] = [
        (
            |file| file.plan_digest = "other".to_owned(),
            "found a plan with digest other, expected ",
        ),
        (
            |file| file.share = "1/4".parse().unwrap(),
            "found a number of shares of 4, expected 3",
        ),
        (
            |file| file.workload.tokenizer = "gpt2".to_owned(),
            "found the tokenizer gpt2, expected o200k_base",
        ),
        (
            |file| file.prompts_digest = "other".to_owned(),
            "found prompts with digest other, expected prompts",
        ),
    ];
    for (change, found) in cases {
        let mut three = shares(3, 60, 0);
        change(&mut three[1].file);
        let merged = merged(three);
        assert!(!merged.is_complete);
        let [other, missing] = &merged.report.problems[..] else {
            panic!("{:?}", merged.report.problems);
        };
        assert_eq!(missing, "Share 1/3 is missing in all figures.");
        assert!(other.contains("dir-1-of-3 is a share of another run"), "{other}");
        assert!(
            other.contains(found) && other.ends_with("as in dir-0-of-3."),
            "{other}"
        );
        assert_eq!(merged.report.client_error.verdict, Verdict::Invalid);
        assert_eq!(merged.report.requests.scheduled, 40);
    }
}

#[test]
fn what_one_share_did_wrong_is_in_the_common_figures() {
    assert_reason(&["Share 2/3: Too slow."], |shares| {
        shares[2]
            .file
            .part
            .client_error
            .invalidate("Too slow.".to_owned());
    });
    let mut with_problem = shares(3, 60, 0);
    with_problem[0].file.part.problems = vec!["disk full".to_owned()];
    assert_eq!(merged(with_problem).report.problems, ["Share 0/3: disk full"]);
}

#[test]
fn windows_have_to_overlap() {
    // The windows are 5.7 s long and begin within 0.2 s of each other.
    let shifted = |millis| {
        move |shares: &mut Vec<FinishedShare>| {
            let by = TimeDelta::milliseconds(millis);
            shares[2].file.window_start += by;
            shares[2].file.window_end += by;
        }
    };
    assert_eq!(reasons(shifted(200)), [""; 0]);
    assert_reason(&["5.7 s", "expected at least 90 %", "--start-at"], shifted(600));
    assert_reason(&["0 s in common (0.0 %)"], shifted(60_000));
}

#[test]
fn clocks_have_to_be_good_enough_for_that() {
    let clocks = |at_start, at_end| {
        move |shares: &mut Vec<FinishedShare>| shares[1].file.clock = ClockReadings { at_start, at_end }
    };
    let good = clock(true, 0.1);
    assert_eq!(reasons(clocks(good, good)), [""; 0]);
    assert_reason(
        &["up to 400 ms", "expected at least 90 %", "synchronise"],
        clocks(good, clock(true, 0.4)),
    );
    assert_reason(
        &[
            "share 1/3 on host-1/3",
            "nothing synchronises it",
            "synchronised, such as by NTP",
        ],
        clocks(good, clock(false, 0.0)),
    );
    assert_reason(&["share 1/3", "the system cannot say it"], clocks(None, good));
    // One share has no other clock to agree with.
    let mut alone = shares(1, 60, 0);
    alone[0].file.clock.at_end = None;
    assert!(merged(alone).report.is_valid());
}

#[test]
fn the_runs_id_follows_from_the_plan_and_the_name() {
    let id = |shares, name| Merged::new(shares, "0", name).unwrap().report.run_id;
    let all = || shares(2, 40, 0);
    assert_eq!(id(all(), Some("a")), id(all(), Some("a")));
    assert_ne!(id(all(), Some("a")), id(all(), Some("b")));
    assert_ne!(
        id(all(), Some("a")),
        id(shares(2, 40, 1), Some("a")),
        "another plan"
    );
    assert_eq!(id(all(), None), id(all(), None));
    let mut of_another_day = all();
    of_another_day[0].file.run_id = "another".to_owned();
    assert_ne!(id(all(), None), id(of_another_day, None));
}

#[test]
fn a_share_is_read_from_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let read = || FinishedShare::read(directory.path()).map_err(|error| ErrorChain(&error).to_string());
    let share = shares(1, 40, 5).remove(0);
    write(SHARE_FILE, &serde_json::to_string(&share.file).unwrap());
    assert!(read().unwrap_err().contains(REQUESTS_FILE));
    let started = finished::on_wall_clock(share.file.started_at);
    let line = |record: &RequestRecord| {
        let error = (record.status != 200).then(|| format!("status {}", record.status));
        serde_json::to_string(&RequestLine::new(record, error.as_deref(), started)).unwrap() + "\n"
    };
    let lines: Vec<String> = share.records.iter().map(line).collect();
    write(REQUESTS_FILE, &lines.concat());
    let found = read().unwrap();
    assert_eq!(
        (found.file, found.records, found.errors),
        (share.file, share.records, share.errors)
    );
    write(REQUESTS_FILE, &lines[1..].concat());
    let error = FinishedShare::read(directory.path()).unwrap_err();
    assert!(
        matches!(
            error,
            ShareFileError::Requests {
                found: 39,
                expected: 40,
                ..
            }
        ),
        "{error}"
    );
    write(REQUESTS_FILE, "nonsense\n");
    assert!(
        read()
            .unwrap_err()
            .contains("requests.jsonl: expected what a share")
    );
    assert!(FinishedShare::read(Path::new("/nonexistent")).is_err());
}
