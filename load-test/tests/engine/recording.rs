use std::time::Duration;

use load_test::{plan::Load, record::Class, run::Texts};
use mock_llm::{Misbehaviour, MockLlm, Settings};

use crate::bench::{Bench, at_once, closed, plan, positive};

#[test]
fn texts_are_kept_of_a_sample_where_the_server_counts() {
    let server = MockLlm::start(at_once()).unwrap();
    let mut plan = plan(closed(4));
    plan.stop.max_requests = Some(1010);
    let ran = Bench::new(&server, plan).run();
    for finished in &ran.finished {
        assert_eq!(finished.record.server_output_tokens, Some(4));
        assert_eq!(finished.text.is_some(), finished.record.index < 1000);
        assert_ne!(finished.text.as_deref(), Some(""));
    }
}

#[test]
fn texts_are_kept_of_all_where_it_does_not() {
    let settings = Settings {
        usage: false,
        ..at_once()
    };
    let server = MockLlm::start(settings).unwrap();
    let mut plan = plan(closed(4));
    plan.stop.max_requests = Some(1010);
    let ran = Bench::new(&server, plan).run();
    for finished in &ran.finished {
        assert_eq!(finished.record.server_output_tokens, None);
        let words = finished.text.as_deref().unwrap().split_whitespace().count();
        assert_eq!(words, 4, "the mock's tokens are words: {:?}", finished.text);
    }
}

#[test]
fn reasoning_is_counted_but_is_no_answer() {
    let server = MockLlm::start(at_once()).unwrap();
    let words = |texts| {
        let mut plan = plan(closed(1));
        plan.model = format!("misbehave:{}", Misbehaviour::Reasoning);
        plan.stop.max_requests = Some(1);
        let mut bench = Bench::new(&server, plan);
        bench.recording.texts = texts;
        let ran = bench.run();
        let record = ran.finished[0].record;
        assert!(record.first_answer.unwrap() >= record.first_content.unwrap());
        ran.finished[0]
            .text
            .as_deref()
            .unwrap()
            .split_whitespace()
            .count()
    };
    assert!(words(Texts::Answers) < words(Texts::ToCount));
}

#[test]
fn every_gap_between_chunks_is_recorded_in_the_ramp_or_after_it() {
    let settings = Settings {
        itl: Duration::from_millis(1),
        output_tokens: 20,
        ..at_once()
    };
    let server = MockLlm::start(settings).unwrap();
    let mut plan = plan(Load::Closed {
        concurrency: positive(4),
        ramp_up: Duration::from_millis(100),
    });
    plan.stop.max_requests = Some(40);
    let mut bench = Bench::new(&server, plan);
    bench.max_tokens = vec![20];
    bench.recording.chunk_timestamps = true;
    let ran = bench.run();
    assert_eq!(ran.count(Class::Ok), 40);
    let mut after_ramp = 0;
    for finished in &ran.finished {
        let stamps = finished.chunk_timestamps.as_deref().unwrap();
        assert_eq!(stamps.len(), 20);
        assert_eq!(stamps.first().copied(), finished.record.first_content);
        assert_eq!(stamps.last().copied(), finished.record.last_content);
        assert!(stamps.is_sorted());
        after_ramp += stamps[1..]
            .iter()
            .filter(|stamp| **stamp >= ran.measurements.ramp_end)
            .count() as u64;
    }
    assert_eq!(ran.measurements.icl_steady.len(), after_ramp);
    assert_eq!(ran.measurements.icl_ramp.len() + after_ramp, 40 * 19);
    assert_eq!(bench.progress.snapshot().chunks, 40 * 20);
    assert!(!ran.measurements.loop_lag.is_empty());
}
