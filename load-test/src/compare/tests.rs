use super::*;
use crate::{
    record::RequestRecord,
    report::{
        ReportInputs, build,
        fixtures::{at, header, measurements, record, recorded, refused},
    },
    verdict::{ErrorLimits, Verdict},
};

/// A run of `n` requests whose TTFT is 200 ms plus some of a fixed sequence of 0 to 99 ms, times `slowdown`.
fn run(n: u64, slowdown: f64, failures: u64) -> Report {
    let mut records: Vec<_> = (0..n)
        .map(|index| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "some hundred milliseconds"
            )]
            let ttft = ((200 + index * 37 % 100) as f64 * slowdown) as u64;
            let first = at(index * 100 + 10 + ttft);
            let last = at(index * 100 + 90 + ttft);
            RequestRecord {
                first_content: Some(first),
                first_answer: Some(first),
                last_content: Some(last),
                closed: last,
                ..record(index)
            }
        })
        .collect();
    records.extend((n..n + failures).map(|index| refused(index, 503)));
    let measurements = measurements(&records);
    build(ReportInputs {
        header: header(),
        measurements: &measurements,
        recorded: &recorded(records),
        limits: ErrorLimits::default(),
    })
}

fn named(report: Report, run_id: &str) -> Report {
    Report {
        run_id: run_id.to_owned(),
        ..report
    }
}

fn finding(comparison: &Comparison, metric: &str) -> Finding {
    let found = comparison.metrics.iter().find(|found| found.metric == metric);
    found.unwrap_or_else(|| panic!("{metric} is compared")).finding
}

fn compared(a: Report, b: Report, threshold: f64) -> Comparison {
    let options = Options {
        threshold,
        allow_invalid: false,
    };
    compare(&named(a, "a"), &named(b, "b"), &options).unwrap()
}

#[test]
fn a_slower_run_is_worse_and_a_faster_one_better() {
    let slower = compared(run(1_200, 1.0, 0), run(1_200, 1.2, 0), 0.05);
    for metric in [
        "ttft_s mean",
        "ttft_s p99",
        "ttft_from_intended_s mean",
        "e2e_latency_s p99",
        "tps mean",
    ] {
        assert_eq!(finding(&slower, metric), Finding::Worse, "{metric}");
    }
    assert_eq!(finding(&slower, "tpot_s mean"), Finding::NoDifferenceShown);
    assert_eq!(slower.exit_status(), 1);
    assert!(slower.warnings.is_empty(), "{:?}", slower.warnings);
    insta::assert_snapshot!(slower.to_text());
    let json = serde_json::to_value(&slower).unwrap();
    assert_eq!(json["metrics"][0]["metric"], "ttft_s mean");
    assert_eq!(json["metrics"][0]["finding"], "worse");

    let faster = compared(run(1_200, 1.2, 0), run(1_200, 1.0, 0), 0.05);
    assert_eq!(finding(&faster, "tps mean"), Finding::Better);
    assert_eq!(faster.exit_status(), 0);
}

#[test]
fn equal_runs_show_no_difference() {
    let comparison = compared(run(1_200, 1.0, 0), run(1_200, 1.0, 0), 0.0);
    assert!(
        comparison
            .metrics
            .iter()
            .all(|metric| metric.finding == Finding::NoDifferenceShown)
    );
    assert_eq!(comparison.exit_status(), 0);
    assert!(
        comparison.to_text().ends_with(
            "No difference shown between A and B (95 % confidence over all figures, threshold 0 %)."
        )
    );
}

#[test]
fn a_difference_below_the_threshold_stops_no_gate() {
    let (a, b) = (run(1_200, 1.0, 0), run(1_200, 1.04, 0));
    assert_eq!(compared(a.clone(), b.clone(), 0.0).exit_status(), 1);
    let comparison = compared(a, b, 0.05);
    assert_eq!(finding(&comparison, "ttft_s mean"), Finding::BelowThreshold);
    assert_eq!(comparison.exit_status(), 0);
}

#[test]
fn too_few_requests_show_nothing() {
    let comparison = compared(run(4, 1.0, 0), run(4, 1.1, 0), 0.0);
    assert_eq!(finding(&comparison, "ttft_s mean"), Finding::NoDifferenceShown);
    let comparison = compared(run(1, 1.0, 0), run(1, 2.0, 0), 0.0);
    assert_eq!(finding(&comparison, "ttft_s mean"), Finding::NoBasis);
}

#[test]
fn more_failures_are_worse_however_fast_the_rest_is() {
    let comparison = compared(run(300, 1.0, 0), run(270, 1.0, 30), 0.05);
    assert_eq!(finding(&comparison, "answered share"), Finding::Worse);
    assert_eq!(comparison.exit_status(), 1);
}

#[test]
fn a_report_that_is_invalid_is_refused() {
    let mut invalid = run(20, 1.0, 0);
    invalid.client_error.verdict = Verdict::Invalid;
    invalid.client_error.reasons = vec!["too slow".to_owned()];
    let refused = compare(&run(20, 1.0, 0), &invalid, &Options::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the second report is INVALID and cannot be compared: too slow"
    );
    let options = Options {
        allow_invalid: true,
        ..Options::default()
    };
    let comparison = compare(&named(run(20, 1.0, 0), "a"), &invalid, &options).unwrap();
    assert_eq!(comparison.warnings, ["The second report is INVALID: too slow"]);
}

#[test]
fn other_prompts_lengths_or_loads_are_warned_about_and_another_model_is_not() {
    let a = named(run(20, 1.0, 0), "a");
    let mut b = run(20, 1.0, 0);
    b.model = "other".to_owned();
    b.workload.plan.model = "other".to_owned();
    let warnings = |b: &Report| compare(&a, b, &Options::default()).unwrap().warnings;
    assert!(warnings(&b).is_empty());
    b.workload.plan.seed += 1;
    b.workload.plan.load = crate::plan::Load::Closed {
        concurrency: std::num::NonZeroU32::MIN,
        ramp_up: std::time::Duration::ZERO,
    };
    assert_eq!(
        warnings(&b),
        [
            "The seeds differ, and with them the prompts.",
            "The load differs."
        ]
    );
    assert_eq!(warnings(&a)[0], "Both reports are of one run.");
}

#[test]
fn a_threshold_is_a_share() {
    let report = run(2, 1.0, 0);
    for found in [-0.1, 5.0, f64::NAN] {
        let options = Options {
            threshold: found,
            allow_invalid: false,
        };
        assert!(matches!(
            compare(&report, &report, &options),
            Err(CompareError::Threshold { .. })
        ));
    }
}
