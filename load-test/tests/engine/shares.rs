//! The shares of a run send together what one process sends.

use std::{collections::BTreeMap, time::Duration};

use load_test::{
    arrivals::Arrivals,
    plan::{Arrival, Load, Plan},
    record::{Class, RequestRecord},
    run::HeldStreams,
    share::{Share, check},
};
use mock_llm::MockLlm;

use crate::bench::{Bench, Ran, at_once, closed, plan, positive};

const REQUESTS: u64 = 100;

/// Carries out all shares of the plan, one after the other, with a prompt of another length for each of seven requests.
fn by_shares(mut plan: Plan, count: u32, trace: &[Duration]) -> Vec<Ran> {
    plan.stop.max_requests = Some(REQUESTS);
    plan.warmup_requests = 10;
    check(&plan, positive(count)).unwrap();
    let server = MockLlm::start(at_once()).unwrap();
    let mut runs = Vec::new();
    for share in Share::all(positive(count)) {
        let mut bench = Bench::new(&server, plan.clone());
        bench.share = share;
        bench.trace = trace.to_vec();
        bench.max_tokens = (1..=7).collect();
        runs.push(bench.run());
    }
    let records: BTreeMap<u64, RequestRecord> = runs
        .iter()
        .flat_map(Ran::records)
        .map(|record| (record.index, *record))
        .collect();
    assert_eq!(
        records.keys().copied().collect::<Vec<_>>(),
        (0..REQUESTS).collect::<Vec<_>>()
    );
    assert_eq!(server.stats().requests, REQUESTS, "each is sent once");
    for record in records.values() {
        assert_eq!(record.class, Class::Ok);
        // The server gives as many tokens as it is asked for, at most 4: which prompt it was can be seen by it.
        let asked = u32::try_from(record.index % 7).unwrap() + 1;
        assert_eq!(record.server_output_tokens, Some(asked.min(4)), "{record:?}");
    }
    runs
}

/// When each request was due since its share's start.
fn due(runs: &[Ran]) -> Vec<Duration> {
    let due: BTreeMap<u64, Duration> = runs
        .iter()
        .flat_map(|ran| {
            let started = ran.measurements.started;
            let since_start = move |record: &RequestRecord| record.intended.saturating_since(started);
            ran.records()
                .map(move |record| (record.index, since_start(record)))
        })
        .collect();
    due.into_values().collect()
}

#[test]
fn they_have_all_streams_and_requests_of_a_closed_loop() {
    for count in [1, 3] {
        let runs = by_shares(plan(closed(8)), count, &[]);
        let scheduled: Vec<_> = runs.iter().map(|ran| ran.measurements.scheduled).collect();
        assert_eq!(scheduled, if count == 1 { vec![100] } else { vec![34, 33, 33] });
        let asked = |ran: &Ran| ran.measurements.streams.map(|HeldStreams { asked, .. }| asked);
        let asked: Option<Vec<_>> = runs.iter().map(asked).collect();
        // None where the window was too short to say what was held.
        assert!(asked.is_none_or(|asked| asked.iter().sum::<u32>() == 8));
    }
}

#[test]
fn they_have_all_arrivals_of_an_open_loop() {
    for arrival in [Arrival::Constant, Arrival::Poisson, Arrival::Gamma { cv: 2.0 }] {
        let (rate, ramp_up) = (500.0, Duration::from_millis(50));
        let load = Load::Open {
            rate,
            arrival,
            ramp_up,
            max_in_flight: positive(1000),
        };
        let plan = plan(load);
        let whole = Arrivals::new(arrival, rate, ramp_up, plan.seed).unwrap();
        let runs = by_shares(plan, 3, &[]);
        assert_eq!(due(&runs), whole.take(100).collect::<Vec<_>>());
    }
}

#[test]
fn they_play_all_of_a_trace() {
    let trace: Vec<_> = (0..REQUESTS).map(|n| Duration::from_millis(n * n / 50)).collect();
    let load = Load::Trace {
        speed: 1.0,
        max_in_flight: positive(1000),
    };
    let runs = by_shares(plan(load), 3, &trace);
    assert_eq!(due(&runs), trace);
}
