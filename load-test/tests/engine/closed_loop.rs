use std::time::Duration;

use load_test::{plan::Load, record::Class};
use mock_llm::{MockLlm, Settings};

use crate::bench::{Bench, at_once, closed, plan, positive};

#[test]
fn the_number_of_requests_is_exact_over_several_threads() {
    let server = MockLlm::start(at_once()).unwrap();
    for (concurrency, cores) in [(1, 1), (8, 3), (2, 4)] {
        let before = server.stats().requests;
        let mut plan = plan(closed(concurrency));
        plan.client_cores = positive(cores);
        plan.stop.max_requests = Some(500);
        let ran = Bench::new(&server, plan).run();
        assert_eq!((ran.facts.scheduled, ran.count(Class::Ok)), (500, 500));
        assert_eq!(server.stats().requests - before, 500);
        assert_eq!(ran.facts.cpu_shares.len(), cores.min(concurrency) as usize);
    }
}

/// One stream is busy with a long answer; the other goes on meanwhile, and does not wait for it (llmperf PR#59).
#[test]
fn a_stream_goes_on_the_moment_its_own_answer_ends() {
    let server = MockLlm::start(Settings {
        ttft: Duration::from_millis(5),
        itl: Duration::from_millis(20),
        output_tokens: 150,
        ..Settings::default()
    })
    .unwrap();
    let mut plan = plan(closed(2));
    plan.client_cores = positive(1);
    plan.stop.max_requests = Some(13);
    let mut bench = Bench::new(&server, plan);
    bench.max_tokens = [150].into_iter().chain([1; 12]).collect();
    let ran = bench.run();
    assert_eq!(ran.count(Class::Ok), 13);
    let (long, short) = ran.finished.split_first().unwrap();
    for pair in short.windows(2) {
        assert!(pair[1].record.intended >= pair[0].record.closed, "one at a time");
        assert!(
            pair[1].record.intended < long.record.closed,
            "it waited for the long one"
        );
    }
}

#[test]
fn streams_start_evenly_over_the_ramp() {
    let server = MockLlm::start(Settings {
        ttft: Duration::from_secs(2),
        output_tokens: 1,
        ..Settings::default()
    })
    .unwrap();
    let ramp_up = Duration::from_millis(400);
    let mut plan = plan(Load::Closed {
        concurrency: positive(8),
        ramp_up,
    });
    plan.stop.max_requests = Some(8);
    let ran = Bench::new(&server, plan).run();
    let mut begun: Vec<_> = ran.records().map(|record| record.intended).collect();
    begun.sort();
    for (position, begun) in (0..8).zip(begun) {
        let due = ran.facts.started + ramp_up * position / 8;
        assert!(begun >= due, "stream {position} started early");
    }
    assert_eq!(ran.facts.ramp_end, ran.facts.started + ramp_up);
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
    plan.stop.send_for = Duration::from_secs(1);
    let ran = Bench::new(&server, plan).run();
    let held = ran.facts.streams.unwrap();
    assert_eq!((held.asked, held.waiting), (10, 0.0));
    // Nearly ten, but for a thread that the machine let start late.
    assert!((5.0..=10.001).contains(&held.in_flight), "{held:?}");
    assert_eq!(ran.facts.waits.count, 0);
}
