use std::{sync::Arc, thread, time::Duration};

use llm_client::Api;
use load_test::{
    calibration::{Calibration, CalibrationError, calibrate},
    plan::{Arrival, Load},
};
use shared_types::SystemClock;
use test_patience::until_blocking;
use tokio_util::sync::CancellationToken;

use crate::bench::{closed, plan, positive};

fn calibrated(load: Load, api: Api, trace: &[Duration]) -> Result<Calibration, CalibrationError> {
    let mut plan = plan(load);
    plan.api = api;
    calibrate(&plan, &[], trace, Arc::new(SystemClock), CancellationToken::new())
}

/// Measures until the machine lets it: one that stands still for most of the two seconds leaves nothing to measure.
fn measured(load: &Load, api: Api) -> Calibration {
    let mut measured = None;
    until_blocking("a calibration that measured something", || {
        let calibration = calibrated(load.clone(), api, &[]).unwrap();
        let has_window = load.is_open_loop() || calibration.streams.is_some();
        measured = (has_window && calibration.tokens_per_s_achieved > 0.0).then_some(calibration);
        measured.is_some()
    });
    measured.unwrap()
}

fn check(calibration: &Calibration) {
    let error = calibration.ttft_error;
    assert!(calibration.requests > 0);
    assert!(0.0 < error.p50_s && error.p50_s <= error.p99_s && error.p99_s <= error.max_s);
    assert!(calibration.loop_lag_p99_s.is_some());
    assert!(calibration.server_lateness_p99_s.is_some());
    // How close they are is the machine's matter; more than 1.2 of what is possible would be wrong arithmetic.
    let achieved = calibration.tokens_per_s_achieved / calibration.tokens_per_s_possible;
    assert!(0.0 < achieved && achieved < 1.2, "{calibration:?}");
}

#[test]
fn a_closed_loop_is_measured_at_its_own_concurrency() {
    thread::scope(|scope| {
        for api in [Api::OpenAiChat, Api::AnthropicMessages] {
            scope.spawn(move || {
                let calibration = measured(&closed(20), api);
                check(&calibration);
                assert_eq!(calibration.streams.unwrap().asked, 20);
                assert!(calibration.late_send_p99_s.is_none());
            });
        }
    });
}

#[test]
fn an_open_loop_is_measured_at_its_own_rate() {
    let load = Load::Open {
        rate: 50.0,
        arrival: Arrival::Poisson,
        ramp_up: Duration::from_millis(500),
        max_in_flight: positive(1000),
    };
    let calibration = measured(&load, Api::OpenAiCompletions);
    check(&calibration);
    assert!(calibration.late_send_p99_s.is_some());
    assert!(calibration.streams.is_none());
}

/// A hundred seconds of silence, then twenty requests: the silence is not what is measured.
#[test]
fn a_trace_is_measured_at_its_busiest() {
    let busy = (0..20).map(|n| Duration::from_secs(100) + Duration::from_millis(50) * n);
    let trace: Vec<_> = [Duration::ZERO].into_iter().chain(busy).collect();
    let load = Load::Trace {
        speed: 1.0,
        max_in_flight: positive(100),
    };
    let calibration = calibrated(load, Api::OpenAiChat, &trace).unwrap();
    assert_eq!(calibration.requests, 20);
}

#[test]
fn an_interrupted_calibration_gives_no_figures() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let plan = plan(closed(2));
    let refused = calibrate(&plan, &[], &[], Arc::new(SystemClock), cancel);
    assert!(matches!(refused, Err(CalibrationError::Interrupted)));
}
