use super::*;
use crate::{
    record::{Class, RequestRecord},
    report::fixtures::{at, header, measurements, record, recorded, refused},
};

fn report(
    records: Vec<RequestRecord>,
    change: impl FnOnce(&mut RunMeasurements, &mut ReportHeader),
) -> Report {
    let mut measurements = measurements(&records);
    let mut header = header();
    change(&mut measurements, &mut header);
    build(ReportInputs {
        header,
        measurements: &measurements,
        recorded: &recorded(records),
        limits: ErrorLimits::default(),
    })
}

/// 99 answers and one refusal, in 10 s.
fn run() -> Vec<RequestRecord> {
    let mut records: Vec<_> = (0..99).map(record).collect();
    records.push(refused(99, 429));
    records
}

#[test]
fn the_whole_report() {
    let report = report(run(), |measurements, header| {
        for gap in 0..400 {
            measurements.icl_steady.record(20_000_000 + gap).unwrap();
        }
        header.workload.plan.slo.ttft_s = Some(0.25);
    });
    insta::assert_json_snapshot!(report);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}

#[test]
fn rates_are_of_what_was_completed_in_the_window() {
    let report = report(run(), |_, _| ());
    // The window is 10 ms to 9 910 ms; request 96 is closed at 9 891 ms.
    assert_eq!(report.steady_window_s, 9.9);
    assert_eq!(report.requests_per_s, Some(97.0 / 9.9));
    assert_eq!(report.output_tokens_per_s, Some(97.0 * 5.0 / 9.9));
}

#[test]
fn a_run_without_answers_has_no_figures_and_says_so_with_null() {
    let report = report(vec![refused(0, 500)], |_, _| ());
    assert_eq!(report.ttft_s, Distribution::default());
    assert_eq!((report.output_tokens_per_s, report.goodput), (None, None));
    assert_eq!(report.requests.http_error, 1);
    assert!(report.is_valid(), "the server's errors are not the client's");
}

#[test]
fn goodput_is_over_all_that_were_scheduled() {
    let report = report(run(), |_, header| header.workload.plan.slo.ttft_s = Some(0.25));
    let goodput = report.goodput.unwrap();
    assert_eq!((goodput.good, goodput.share), (99, Some(0.99)));
}

#[test]
fn the_warm_up_is_in_no_figure() {
    let report = report(run(), |_, header| header.workload.plan.warmup_requests = 40);
    assert_eq!((report.warmup_requests, report.requests.scheduled), (40, 60));
    assert_eq!(report.ttft_s.n, 59);
    assert!(report.requests.balance());
}

#[test]
fn totals_that_do_not_balance_make_the_report_invalid() {
    let report = report(run(), |measurements, _| measurements.scheduled = 101);
    assert!(!report.is_valid());
    assert_eq!(
        report.client_error.reasons,
        ["101 requests were scheduled and 100 ended; expected as many."]
    );
}

#[test]
fn a_request_that_is_recorded_twice_makes_the_report_invalid() {
    let mut records = run();
    records[1].index = 0;
    let report = report(records, |_, _| ());
    assert_eq!(
        report.client_error.reasons,
        ["1 requests were recorded twice; expected none."]
    );
}

#[test]
fn what_could_not_be_written_is_in_the_report() {
    let records = run();
    let mut recorded = recorded(records.clone());
    recorded.problems.push(crate::journal::JournalError::KeepText {
        lost: 3,
        source: std::io::Error::other("disk full"),
    });
    let report = build(ReportInputs {
        header: header(),
        measurements: &measurements(&records),
        recorded: &recorded,
        limits: ErrorLimits::default(),
    });
    assert_eq!(
        report.problems,
        ["cannot keep answers in a temporary file: 3 are not counted: disk full"]
    );
}

#[test]
fn parts_of_two_shares_make_one_report() {
    let halves = [run(), run()].map(|records| {
        let measurements = measurements(&records);
        let window = Window::choose(&records, 0, &measurements);
        let recorded = recorded(records);
        let inputs = ReportInputs {
            header: header(),
            measurements: &measurements,
            recorded: &recorded,
            limits: ErrorLimits::default(),
        };
        part(&inputs, &window)
    });
    let mut both = halves[0].clone();
    both.merge(&halves[1]);
    let report = of_part(header(), &both);
    assert_eq!((report.client.shares, report.requests.scheduled), (2, 200));
    assert_eq!(report.steady_window_s, 9.9);
    assert_eq!(report.requests_per_s, Some(194.0 / 9.9));
}

#[test]
fn an_open_loops_waits_are_in_the_second_latency() {
    let late = RequestRecord {
        sent: Some(at(150)),
        ..record(0)
    };
    let report = report(vec![late], |_, _| ());
    assert_eq!(report.ttft_s.max, Some(0.06));
    assert_eq!(report.ttft_from_intended_s.max, Some(0.21));
    assert_eq!(Class::Ok, late.class);
}
