use std::{thread, time::Duration};

use load_test::{
    record::Class,
    run::{FileLimitError, RunError, run},
};
use mock_llm::{Misbehaviour, MockLlm};

use crate::bench::{Bench, at_once, closed, plan};

/// How requests may end that are answered so.
fn expected(misbehaviour: Misbehaviour) -> &'static [Class] {
    use Misbehaviour as M;
    match misbehaviour {
        M::InStreamError
        | M::ErrorBody200
        | M::ResetBeforeHead
        | M::ResetAfterHead
        | M::ResetInChunk
        | M::HugeLine => &[Class::StreamError],
        M::CleanEndWithoutFinish => &[Class::Truncated],
        M::RateLimited | M::Redirect => &[Class::HttpError],
        M::NeverEnding | M::NoHead => &[Class::TimedOut, Class::Cancelled],
        M::SlowDrip | M::ByteByByte => &[Class::Ok, Class::TimedOut, Class::Cancelled],
        _ => &[Class::Ok],
    }
}

/// Whatever a server does, all requests end, each in one class, and in time.
#[test]
fn nothing_that_a_server_does_loses_a_request() {
    let server = MockLlm::start(at_once()).unwrap();
    thread::scope(|scope| {
        for &misbehaviour in Misbehaviour::ALL {
            let server = &server;
            scope.spawn(move || {
                let mut plan = plan(closed(3));
                plan.model = format!("misbehave:{misbehaviour}");
                plan.stop.max_requests = Some(7);
                plan.stop.send_for = Duration::from_secs(20);
                plan.stop.drain = Duration::from_secs(20);
                if matches!(misbehaviour, Misbehaviour::NeverEnding | Misbehaviour::NoHead) {
                    plan.request_timeout = Duration::from_millis(500);
                    plan.stop.drain = Duration::from_millis(300);
                }
                let ran = Bench::new(server, plan).run();
                for record in ran.records() {
                    assert!(
                        expected(misbehaviour).contains(&record.class),
                        "{misbehaviour}: {record:?}"
                    );
                }
            });
        }
    });
}

#[test]
fn a_server_that_is_not_there_is_not_asked_in_a_busy_loop() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(closed(2));
    plan.stop.send_for = Duration::from_millis(600);
    let mut bench = Bench::new(&server, plan);
    // Nothing listens on tcpmux, and no test takes a port of the privileged.
    bench.base_url = "http://127.0.0.1:1/v1".into();
    let ran = bench.run();
    assert_eq!(ran.count(Class::StreamError), ran.facts.scheduled);
    // Begun at 0, 10, 30, 70, 150, 310 and 630 ms at the earliest.
    assert!((2..=12).contains(&ran.facts.scheduled), "{}", ran.facts.scheduled);
    assert_eq!(ran.facts.waits.count, ran.facts.scheduled);
}

#[test]
fn a_server_that_asks_to_wait_is_obeyed() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(closed(1));
    plan.model = format!("misbehave:{}", Misbehaviour::RateLimited);
    plan.stop.send_for = Duration::from_millis(1_500);
    let ran = Bench::new(&server, plan).run();
    // Retry-After: 1. Without it there would be eight or so.
    assert!((1..=2).contains(&ran.facts.scheduled), "{}", ran.facts.scheduled);
    assert_eq!(ran.count(Class::HttpError), ran.facts.scheduled);
    assert!(ran.records().all(|record| record.status == 429));
    assert!(ran.facts.waits.total > Duration::ZERO);
}

#[test]
fn a_cancelled_run_ends_at_once_and_loses_nothing() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(closed(5));
    plan.model = format!("misbehave:{}", Misbehaviour::NoHead);
    plan.stop.send_for = Duration::from_secs(3600);
    plan.stop.drain = Duration::from_secs(3600);
    plan.request_timeout = Duration::from_secs(3600);
    let bench = Bench::new(&server, plan);
    let ran = thread::scope(|scope| {
        let run = scope.spawn(|| bench.run());
        while bench.progress.snapshot().in_flight < 5 {
            thread::yield_now();
        }
        bench.cancel.cancel();
        run.join().unwrap()
    });
    assert!(ran.facts.interrupted);
    assert_eq!((ran.facts.scheduled, ran.count(Class::Cancelled)), (5, 5));
}

#[test]
fn what_is_in_flight_when_the_drain_is_over_is_cancelled() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(closed(3));
    plan.model = format!("misbehave:{}", Misbehaviour::NeverEnding);
    plan.stop.send_for = Duration::from_millis(100);
    plan.stop.drain = Duration::from_millis(100);
    let ran = Bench::new(&server, plan).run();
    assert_eq!((ran.facts.scheduled, ran.count(Class::Cancelled)), (3, 3));
    assert!(!ran.facts.interrupted);
    assert!(ran.facts.ended >= ran.facts.started + Duration::from_millis(200));
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
