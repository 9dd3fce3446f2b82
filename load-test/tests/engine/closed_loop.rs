use std::time::Duration;

use load_test::{
    plan::Load,
    record::{Class, RequestRecord},
};
use mock_llm::{Misbehaviour, MockLlm, Settings};

use crate::bench::{Bench, Ran, at_once, closed, plan, positive};

#[test]
fn the_number_of_requests_is_exact_over_several_threads() {
    let server = MockLlm::start(at_once()).unwrap();
    for (concurrency, cores) in [(1, 1), (8, 3), (2, 4)] {
        let before = server.stats().requests;
        let mut plan = plan(closed(concurrency));
        plan.client_cores = positive(cores);
        plan.stop.max_requests = Some(500);
        let ran = Bench::new(&server, plan).run();
        assert_eq!((ran.measurements.scheduled, ran.count(Class::Ok)), (500, 500));
        assert_eq!(server.stats().requests - before, 500);
        assert_eq!(ran.measurements.cpu_shares.len(), cores.min(concurrency) as usize);
    }
}

/// One stream is busy with an answer that does not end; the other goes on meanwhile, and does not wait for it (llmperf PR#59).
#[test]
fn a_stream_goes_on_the_moment_its_own_answer_ends() {
    const LONG: u32 = 1_000_000;
    let server = MockLlm::start(Settings {
        ttft: Duration::from_millis(5),
        itl: Duration::from_millis(20),
        output_tokens: LONG,
        ..Settings::default()
    })
    .unwrap();
    let mut plan = plan(closed(2));
    plan.client_cores = positive(1);
    plan.stop.max_requests = Some(13);
    let mut bench = Bench::new(&server, plan);
    bench.max_tokens = [LONG].into_iter().chain([1; 12]).collect();
    let ran = bench.run_until("the short answers", |progress| {
        progress.classes.of(Class::Ok) == 12
    });
    let (long, short) = ran.finished.split_first().unwrap();
    assert_eq!(long.record.class, Class::Cancelled);
    for pair in short.windows(2) {
        assert!(pair[1].record.intended >= pair[0].record.closed, "one at a time");
    }
}

#[test]
fn streams_start_evenly_over_the_ramp() {
    let server = MockLlm::start(at_once()).unwrap();
    let ramp_up = Duration::from_millis(400);
    let mut plan = plan(Load::Closed {
        concurrency: positive(8),
        ramp_up,
    });
    plan.model = format!("misbehave:{}", Misbehaviour::NoHead);
    let ran = Bench::new(&server, plan).run_until("all streams", |progress| progress.in_flight == 8);
    let mut begun: Vec<_> = ran.records().map(|record| record.intended).collect();
    begun.sort();
    for (position, begun) in (0..8).zip(begun) {
        let due = ran.measurements.started + ramp_up * position / 8;
        assert!(begun >= due, "stream {position} started early");
    }
    assert_eq!(ran.measurements.ramp_end, ran.measurements.started + ramp_up);
}

#[test]
fn the_streams_that_are_asked_for_are_held() {
    let server = MockLlm::start(Settings {
        ttft: Duration::from_millis(20),
        itl: Duration::from_millis(10),
        output_tokens: 4,
        ..Settings::default()
    })
    .unwrap();
    let mut plan = plan(closed(10));
    // Each takes 50 ms, so the last one begins after 550 ms at the earliest: a window of less would be too short.
    plan.stop.max_requests = Some(120);
    let ran = Bench::new(&server, plan).run();
    let held = ran.measurements.streams.unwrap();
    assert_eq!((held.asked, held.waiting), (10, 0.0));
    // Nearly ten, as far as the machine let them.
    let least = least_in_flight(&ran, 0) + least_in_flight(&ran, 1);
    assert!((least..=10.001).contains(&held.in_flight), "{held:?}, {least}");
    assert_eq!(ran.measurements.backoff_waits.count, 0);
}

/// How many requests of this thread were in flight at least, on the average until the last one was begun: each from its first byte to its end.
fn least_in_flight(ran: &Ran, thread: u16) -> f64 {
    let records = || ran.records().filter(|record| record.thread == thread);
    let started = ran.measurements.started;
    let Some(last_due) = records().map(|record| record.intended).max() else {
        return 0.0;
    };
    let last_sent = records().map(|record| record.sent.unwrap()).max().unwrap();
    let in_flight =
        |record: &RequestRecord| record.closed.min(last_due).saturating_since(record.sent.unwrap());
    let sum: Duration = records().map(in_flight).sum();
    sum.as_secs_f64() / last_sent.saturating_since(started).as_secs_f64()
}
