use std::time::Duration;

use load_test::{
    plan::{Arrival, Load},
    record::Class,
};
use mock_llm::{Misbehaviour, MockLlm, Settings, Stall};

use crate::bench::{Bench, at_once, plan, positive};

fn open(rate: f64, arrival: Arrival, max_in_flight: u32) -> Load {
    Load::Open {
        rate,
        arrival,
        ramp_up: Duration::ZERO,
        max_in_flight: positive(max_in_flight),
    }
}

#[test]
fn what_is_due_is_sent_when_it_is_due_and_not_before() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(open(500.0, Arrival::Constant, 1000));
    plan.stop.max_requests = Some(200);
    let ran = Bench::new(&server, plan).run();
    assert_eq!((ran.measurements.scheduled, ran.count(Class::Ok)), (200, 200));
    for (position, record) in (0..).zip(ran.records()) {
        assert_eq!(
            record.intended,
            ran.measurements.started + Duration::from_millis(2) * position
        );
        assert!(record.sent.unwrap() >= record.intended);
        assert_eq!(u64::from(record.thread), record.index % 2, "dealt out in turn");
    }
    assert_eq!(ran.measurements.late_sends.len(), 200);
    assert!(ran.measurements.streams.is_none());
}

#[test]
fn nothing_is_due_after_the_time_to_send() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(open(100.0, Arrival::Constant, 1000));
    plan.stop.send_for = Duration::from_millis(500);
    let ran = Bench::new(&server, plan).run();
    assert_eq!(ran.measurements.scheduled, 51, "at 0, 10, ..., 500 ms");
}

#[test]
fn a_trace_is_played_to_its_end() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut bench = Bench::new(
        &server,
        plan(Load::Trace {
            speed: 10.0,
            max_in_flight: positive(10),
        }),
    );
    bench.trace = [0, 100, 100, 1500].map(Duration::from_millis).to_vec();
    let ran = bench.run();
    let intended: Vec<_> = ran.records().map(|record| record.intended).collect();
    let due = [0, 10, 10, 150].map(|millis| ran.measurements.started + Duration::from_millis(millis));
    assert_eq!(intended, due);
    assert_eq!(ran.count(Class::Ok), 4);
}

/// A server that stalls is still asked, so the stall is in the figures of every request that was due in it; a closed loop
/// would have it in one per stream (coordinated omission).
#[test]
fn a_stall_is_felt_by_all_who_come_in_it() {
    let stall = Duration::from_millis(200);
    let server = MockLlm::start(Settings {
        stall: Some(Stall {
            every: Duration::from_millis(250),
            lasts: stall,
        }),
        ..at_once()
    })
    .unwrap();
    let mut plan = plan(open(400.0, Arrival::Constant, 10_000));
    plan.stop.send_for = Duration::from_millis(500);
    let ran = Bench::new(&server, plan).run();
    assert_eq!((ran.measurements.scheduled, ran.count(Class::Ok)), (201, 201));
    let felt = |from_intended: Duration| from_intended > stall / 4;
    let slow = ran
        .records()
        .filter(|record| {
            let first = record.first_content.unwrap();
            assert!(first.saturating_since(record.intended) >= first.saturating_since(record.sent.unwrap()));
            felt(first.saturating_since(record.intended))
        })
        .count();
    // 80 arrivals are due in the stall, of which the first 60 wait for more than a quarter of it.
    assert!(slow >= 50, "{slow} of 201");
}

#[test]
fn what_exceeds_the_requests_in_flight_is_dropped_and_says_so() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(open(1000.0, Arrival::Poisson, 4));
    plan.model = format!("misbehave:{}", Misbehaviour::NoHead);
    plan.stop.max_requests = Some(50);
    // They are cancelled then, long before they time out.
    plan.stop.send_for = Duration::from_millis(200);
    plan.stop.drain = Duration::ZERO;
    let ran = Bench::new(&server, plan).run();
    assert_eq!((ran.count(Class::Cancelled), ran.count(Class::Dropped)), (4, 46));
    let dropped = ran
        .finished
        .iter()
        .find(|finished| finished.record.class == Class::Dropped);
    let error = dropped.unwrap().error.as_deref().unwrap();
    assert_eq!(error, "2 requests of this thread were in flight, its share of 4");
    assert!(dropped.unwrap().record.sent.is_none());
}

/// All are due within nanoseconds and there is no time to drain: the run ends before their tasks have had a turn.
#[test]
fn what_was_never_begun_is_not_said_to_be_sent() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(open(1e9, Arrival::Constant, 10));
    plan.client_cores = positive(1);
    plan.stop.max_requests = Some(4);
    plan.stop.send_for = Duration::from_nanos(10);
    plan.stop.drain = Duration::ZERO;
    let ran = Bench::new(&server, plan).run();
    assert_eq!((ran.measurements.scheduled, ran.count(Class::Cancelled)), (4, 4));
    assert!(ran.records().all(|record| record.sent.is_none()));
    assert_eq!(server.stats().requests, 0);
}
