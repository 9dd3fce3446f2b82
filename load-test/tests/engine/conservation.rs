use std::{thread, time::Duration};

use load_test::{
    record::{Class, RequestRecord},
    run::{FileLimitError, RunError, run},
};
use mock_llm::{Misbehaviour, MockLlm, Settings};

use crate::bench::{Bench, Ran, at_once, closed, given_time, plan};

/// How requests end that are answered so.
fn expected(misbehaviour: Misbehaviour) -> Class {
    use Misbehaviour as M;
    match misbehaviour {
        M::InStreamError
        | M::ErrorBody200
        | M::ResetBeforeHead
        | M::ResetAfterHead
        | M::ResetInChunk
        | M::HugeLine => Class::StreamError,
        M::CleanEndWithoutFinish => Class::Truncated,
        M::RateLimited | M::Redirect => Class::HttpError,
        M::NeverEnding | M::NoHead => Class::TimedOut,
        _ => Class::Ok,
    }
}

/// So that an answer without end leaves the machine to others.
fn without_haste() -> Settings {
    Settings {
        itl: Duration::from_millis(1),
        ..at_once()
    }
}

/// Whatever a server does, all requests end, each in one class, and in time.
#[test]
fn nothing_that_a_server_does_loses_a_request() {
    let server = MockLlm::start(without_haste()).unwrap();
    thread::scope(|scope| {
        for &misbehaviour in Misbehaviour::ALL {
            let server = &server;
            scope.spawn(move || {
                let mut plan = plan(closed(3));
                plan.model = format!("misbehave:{misbehaviour}");
                plan.stop.max_requests = Some(7);
                if matches!(misbehaviour, Misbehaviour::NeverEnding | Misbehaviour::NoHead) {
                    plan.request_timeout = Duration::from_millis(200);
                }
                if misbehaviour == Misbehaviour::SlowDrip {
                    // Each takes two seconds.
                    plan.stop.max_requests = Some(3);
                }
                let ran = Bench::new(server, plan).run();
                for record in ran.records() {
                    assert_eq!(record.class, expected(misbehaviour), "{misbehaviour}: {record:?}");
                }
            });
        }
    });
}

#[test]
fn a_server_that_is_not_there_is_not_asked_in_a_busy_loop() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(closed(2));
    plan.stop.max_requests = Some(10);
    let mut bench = Bench::new(&server, plan);
    // Nothing listens on tcpmux, and no test takes a port of the privileged.
    bench.base_url = "http://127.0.0.1:1/v1".into();
    let ran = bench.run();
    assert_eq!(
        (ran.measurements.scheduled, ran.count(Class::StreamError)),
        (10, 10)
    );
    // Each thread has one stream.
    for thread in [0, 1] {
        for (failures, rest) in (0..).zip(rests(&ran, thread)) {
            let doubled = Duration::from_millis(10) * 2_u32.pow(failures);
            let expected = doubled.min(Duration::from_secs(1));
            assert!(rest >= expected, "{rest:?} after {failures} failures before");
        }
    }
    assert_eq!(ran.measurements.backoff_waits.count, 10);
}

/// The times between this thread's requests.
fn rests(ran: &Ran, thread: u16) -> Vec<Duration> {
    let records: Vec<&RequestRecord> = ran.records().filter(|record| record.thread == thread).collect();
    let rest = |pair: &[&RequestRecord]| pair[1].intended.saturating_since(pair[0].closed);
    records.windows(2).map(rest).collect()
}

#[test]
fn a_server_that_asks_to_wait_is_obeyed() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(closed(1));
    plan.model = format!("misbehave:{}", Misbehaviour::RateLimited);
    plan.stop.max_requests = Some(2);
    let ran = Bench::new(&server, plan).run();
    assert_eq!((ran.measurements.scheduled, ran.count(Class::HttpError)), (2, 2));
    // Retry-After: 1. Without it there would be 10 ms.
    assert!(rests(&ran, 0)[0] >= Duration::from_secs(1));
    assert!(ran.records().all(|record| record.status == 429));
    assert!(ran.measurements.backoff_waits.total > Duration::ZERO);
}

#[test]
fn a_cancelled_run_ends_at_once_and_loses_nothing() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(closed(5));
    plan.model = format!("misbehave:{}", Misbehaviour::NoHead);
    plan.stop.send_for = Duration::from_secs(3600);
    plan.stop.drain = Duration::from_secs(3600);
    plan.request_timeout = Duration::from_secs(3600);
    let ran = Bench::new(&server, plan).run_until("all streams", |progress| progress.in_flight == 5);
    assert!(ran.measurements.interrupted);
    assert_eq!((ran.measurements.scheduled, ran.count(Class::Cancelled)), (5, 5));
}

#[test]
fn what_is_in_flight_when_the_drain_is_over_is_cancelled() {
    let server = MockLlm::start(without_haste()).unwrap();
    let mut plan = plan(closed(3));
    plan.model = format!("misbehave:{}", Misbehaviour::NeverEnding);
    let ran = given_time(Duration::from_millis(100), |time| {
        (plan.stop.send_for, plan.stop.drain) = (time, time);
        let ran = Bench::new(&server, plan.clone()).run();
        assert!(!ran.measurements.interrupted);
        assert!(ran.measurements.ended >= ran.measurements.started + 2 * time);
        (ran.measurements.scheduled == 3).then_some(ran)
    });
    assert_eq!(ran.count(Class::Cancelled), 3);
}

#[test]
fn a_journal_that_is_gone_ends_the_run() {
    let server = MockLlm::start(at_once()).unwrap();
    let bench = Bench::new(&server, plan(closed(2)));
    let (journal, receiver) = std::sync::mpsc::sync_channel(1);
    drop(receiver);
    assert!(matches!(run(bench.inputs(journal)), Err(RunError::Journal)));
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_sent() {
    let server = MockLlm::start(at_once()).unwrap();
    let refused = Bench::new(&server, plan(closed(u32::MAX))).try_run();
    assert!(matches!(
        refused.err(),
        Some(RunError::FileLimit(FileLimitError::TooLow { .. }))
    ));
    let mut nothing = Bench::new(&server, plan(closed(1)));
    nothing.max_tokens.clear();
    assert!(matches!(nothing.try_run().err(), Some(RunError::NoRequests)));
    assert_eq!(server.stats().requests, 0);
}
