//! Thousands of seeds: random work, faults and crashes.

use crate::{
    scenario::Scenario,
    simulation::{Report, simulate},
    tally::{Event, Tally},
};

const SEEDS: u64 = 3000;

#[test]
fn every_seed_ends_with_every_batch_counted_once() {
    let mut tally = Tally::default();
    let mut slowest = std::time::Duration::ZERO;
    for seed in 0..SEEDS {
        let Report { record, recovery } = simulate(Scenario::of_seed(seed), false);
        if !record.violations.is_empty() {
            let again = simulate(Scenario::of_seed(seed), true);
            for line in &again.record.trace { println!("{line}"); }
            panic!("seed {seed}: {:#?}", record.violations);
        }
        tally.merge(&record.tally);
        slowest = slowest.max(recovery);
    }
    println!("{tally}\n{slowest:?}");
    for event in Event::ALL {
        assert!(tally.of(event) > 0, "{event:?} never happened");
    }
}
