use std::time::Duration;

use chrono::DateTime;
use precise_time::MonotonicTime;

use super::*;
use crate::{
    calibration::ErrorQuantiles,
    histograms::duration_histogram,
    run::{BackoffWaits, ClassCounts},
};

/// A run that kept up: a loop lag of 0.1 ms, nothing late, nothing dropped.
fn good() -> RunMeasurements {
    let started = MonotonicTime::from_nanos(1);
    let mut loop_lag = duration_histogram();
    loop_lag.record_n(100_000, 1000).unwrap();
    let mut classes = ClassCounts::default();
    classes.count(Class::Ok, 5000);
    RunMeasurements {
        started_at: DateTime::UNIX_EPOCH,
        started,
        ramp_end: started,
        last_begun: Some(started + Duration::from_secs(10)),
        ended: started + Duration::from_secs(11),
        scheduled: 5000,
        classes,
        icl_ramp: duration_histogram(),
        icl_steady: duration_histogram(),
        loop_lag,
        stamp_uncertainty: duration_histogram(),
        late_sends: duration_histogram(),
        streams: Some(HeldStreams {
            asked: 100,
            in_flight: 99.9,
            waiting: 0.0,
        }),
        backoff_waits: BackoffWaits::default(),
        cpu_shares: vec![0.5, 0.6],
        interrupted: false,
    }
}

fn calibration(p99_s: f64) -> Calibration {
    Calibration {
        requests: 300,
        ttft_error: ErrorQuantiles {
            p50_s: p99_s / 4.0,
            p99_s,
            max_s: p99_s * 2.0,
        },
        server_lateness_p99_s: Some(0.0001),
        loop_lag_p99_s: Some(0.0001),
        stamp_uncertainty_p99_s: None,
        late_send_p99_s: None,
        streams: None,
        tokens_per_s_possible: 5000.0,
        tokens_per_s_achieved: 4990.0,
    }
}

fn judged(measurements: &RunMeasurements, calibration: Option<&Calibration>, ttft_p50_s: f64) -> ClientError {
    judge(
        measurements,
        calibration,
        Some(ttft_p50_s),
        &ErrorLimits::default(),
    )
}

/// Invalid for this one reason.
fn the_reason(error: &ClientError) -> &str {
    assert_eq!(error.verdict, Verdict::Invalid);
    assert_eq!(error.reasons.len(), 1, "{:?}", error.reasons);
    &error.reasons[0]
}

#[test]
fn a_client_that_kept_up_is_valid_with_the_larger_bound() {
    let error = judged(&good(), None, 0.2);
    assert_eq!((error.verdict, error.reasons.len()), (Verdict::Valid, 0));
    assert!((error.ttft_p99_s.unwrap() - 0.0001).abs() < 1e-6);
    let error = judged(&good(), Some(&calibration(0.0006)), 0.2);
    assert_eq!((error.verdict, error.ttft_p99_s), (Verdict::Valid, Some(0.0006)));
    assert_eq!(error.late_send_p99_s, None);
}

#[test]
fn the_allowed_error_grows_with_the_ttft() {
    let calibration = calibration(0.006);
    let short = judged(&good(), Some(&calibration), 0.2);
    assert_eq!(
        the_reason(&short),
        "The client may have added 6.00 ms to the p99 of TTFT (calibration 6.00 ms, stamp uncertainty not measured, loop lag 0.10 ms); \
         expected at most 4.00 ms: use more client cores or less load."
    );
    assert_eq!(judged(&good(), Some(&calibration), 0.4).verdict, Verdict::Valid);
}

#[test]
fn loop_lag_alone_invalidates() {
    let mut measurements = good();
    measurements.loop_lag.record_n(50_000_000, 100).unwrap();
    let reason = judged(&measurements, None, 0.2);
    assert!(
        the_reason(&reason)
            .contains("calibration not measured, stamp uncertainty not measured, loop lag 50."),
        "{reason:?}"
    );
}

/// With the kernel's stamps a loop that is late makes nobody's TTFT longer, unless too many are without.
#[test]
fn loop_lag_does_not_count_where_the_stamps_are_known_better() {
    let mut measurements = good();
    measurements.loop_lag.record_n(50_000_000, 100).unwrap();
    measurements.stamp_uncertainty.record_n(0, 4951).unwrap();
    measurements.stamp_uncertainty.record_n(30_000_000, 49).unwrap();
    let error = judged(&measurements, Some(&calibration(0.0001)), 0.2);
    assert_eq!((error.verdict, error.ttft_p99_s), (Verdict::Valid, Some(0.0001)));
    assert!(error.stamp_uncertainty_p99_s.unwrap() < 1e-6);
    measurements.stamp_uncertainty.record_n(30_000_000, 20).unwrap();
    let error = judged(&measurements, Some(&calibration(0.0001)), 0.2);
    assert!(the_reason(&error).contains("stamp uncertainty 30."), "{error:?}");
    // And the other way round: nothing is later than its loop.
    let mut measurements = good();
    measurements.stamp_uncertainty.record_n(30_000_000, 100).unwrap();
    assert_eq!(judged(&measurements, None, 0.2).verdict, Verdict::Valid);
}

/// Not even where nothing else is wrong.
#[test]
fn a_run_does_not_claim_what_it_cannot_see() {
    let mut measurements = good();
    measurements.stamp_uncertainty.record_n(0, 5000).unwrap();
    assert_eq!(judged(&measurements, None, 0.2).ttft_p99_s, Some(0.0001));
    let calibrated = judged(&measurements, Some(&calibration(0.00005)), 0.2);
    assert_eq!(calibrated.ttft_p99_s, Some(0.0001));
}

#[test]
fn few_requests_of_a_calibration_are_not_judged_by_the_worst_of_them_alone() {
    let few = |loop_lag| Calibration {
        requests: 20,
        loop_lag_p99_s: Some(loop_lag),
        ..calibration(0.0008)
    };
    let bound = |calibration| judged(&good(), Some(&calibration), 0.2).ttft_p99_s;
    assert_eq!(bound(few(0.005)), Some(0.0008));
    assert_eq!(bound(few(0.0004)), Some(0.0004));
}

#[test]
fn a_calibration_alone_is_judged_by_all_it_measured() {
    let reasons = |calibration: &Calibration| judge_calibration(calibration, &ErrorLimits::default());
    assert_eq!(reasons(&calibration(0.0019)), Vec::<String>::new());
    let bad = Calibration {
        late_send_p99_s: Some(0.05),
        streams: Some(HeldStreams {
            asked: 100,
            in_flight: 50.0,
            waiting: 0.0,
        }),
        ..calibration(0.0021)
    };
    let found = reasons(&bad);
    assert!(found[0].contains("2.10 ms at p99"), "{found:?}");
    assert!(
        found[1].contains("later than they were due: p99 50."),
        "{found:?}"
    );
    assert!(found[2].contains("held 50.0 of 100"), "{found:?}");
}

#[test]
fn an_error_that_nothing_measured_is_no_error_of_zero() {
    let mut measurements = good();
    measurements.loop_lag = duration_histogram();
    let error = judged(&measurements, None, 0.2);
    assert!(the_reason(&error).contains("unknown"));
    assert_eq!(error.ttft_p99_s, None);
    assert_eq!(
        judged(&measurements, Some(&calibration(0.001)), 0.2).verdict,
        Verdict::Valid
    );
}

#[test]
fn late_sends_invalidate_beyond_a_limit_that_can_be_set() {
    let mut measurements = good();
    measurements.streams = None;
    measurements.late_sends.record_n(8_000_000, 100).unwrap();
    let error = judged(&measurements, None, 0.2);
    assert!(the_reason(&error).starts_with("Requests were sent later than they were due: p99 8.0"));
    let limits = ErrorLimits {
        late_send_s: Some(0.01),
        ..ErrorLimits::default()
    };
    assert_eq!(
        judge(&measurements, None, Some(0.2), &limits).verdict,
        Verdict::Valid
    );
}

#[test]
fn streams_that_were_not_held_invalidate_and_those_that_rest_count() {
    let mut measurements = good();
    let held = |in_flight, waiting| {
        Some(HeldStreams {
            asked: 100,
            in_flight,
            waiting,
        })
    };
    measurements.streams = held(97.0, 0.0);
    assert_eq!(
        the_reason(&judged(&measurements, None, 0.2)),
        "The client held 97.0 of 100 concurrent streams (97.0 %) on the average; expected at least 98 %."
    );
    measurements.streams = held(57.0, 42.0);
    assert_eq!(judged(&measurements, None, 0.2).verdict, Verdict::Valid);
}

#[test]
fn one_dropped_request_invalidates() {
    let mut measurements = good();
    measurements.classes.count(Class::Dropped, 1);
    measurements.scheduled += 1;
    assert!(the_reason(&judged(&measurements, None, 0.2)).contains("could not send 1 of 5001 requests"));
}

#[test]
fn a_busy_thread_invalidates() {
    let mut measurements = good();
    measurements.cpu_shares = vec![0.2, 0.991];
    assert!(the_reason(&judged(&measurements, None, 0.2)).contains("busy for 99.1 % of the time"));
}

#[test]
fn an_overload_says_all_that_was_wrong() {
    let mut measurements = good();
    measurements.loop_lag.record_n(50_000_000, 100).unwrap();
    measurements.cpu_shares = vec![1.0];
    measurements.streams = Some(HeldStreams {
        asked: 4096,
        in_flight: 371.0,
        waiting: 0.0,
    });
    assert_eq!(
        judged(&measurements, Some(&calibration(0.06)), 0.2).reasons.len(),
        3
    );
}
