//! Thousands of seeds: random work, faults and crashes.

use std::{num::NonZero, ops::Range, panic::resume_unwind, thread, time::Duration};

use crate::{
    event_counts::{Event, EventCounts},
    sabotage::Sabotage,
    scenario::Scenario,
    simulation::{Report, simulate},
};

/// Simulated by every `cargo test`.
const SEEDS: Range<u64> = 0..4000;

/// Set to a seed or a range (`17`, `5000..100000`), simulates these instead.
const SEEDS_VARIABLE: &str = "SIMULATION_SEEDS";

/// The seeds that once failed.
fn kept() -> Vec<u64> {
    let lines = include_str!("../../seeds.txt").lines();
    let seeds = lines.map(|line| line.split('#').next().unwrap_or_default().trim());
    seeds
        .filter(|seed| !seed.is_empty())
        .map(|seed| seed.parse().expect("a seed in seeds.txt"))
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "not a setting of a service: whoever looks for a fault chooses the test's seeds"
)]
fn asked_for() -> Option<Range<u64>> {
    let asked = std::env::var(SEEDS_VARIABLE).ok()?;
    let number = |text: &str| text.parse().expect("a seed, or a range such as 5000..100000");
    Some(match asked.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&asked)..number(&asked) + 1,
    })
}

fn verify(seed: u64) -> Report {
    let report = simulate(Scenario::of_seed(seed), false);
    if report.record.violations.is_empty() {
        return report;
    }
    let again = simulate(Scenario::of_seed(seed), true);
    panic!(
        "{}\n\nseed {seed} failed: {:#?}\nAlone: {SEEDS_VARIABLE}={seed} \
         cargo test -p deterministic-simulation every_seed\n\
         Add it to tests/simulation/seeds.txt.",
        again.record.trace.join("\n"),
        report.record.violations,
    );
}

/// Each run has a thread for itself; so many go on at once as there are cores.
fn on_every_core<T: Send>(seeds: &[u64], run: fn(u64) -> T) -> Vec<T> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let shares = seeds.chunks(seeds.len().div_ceil(cores).max(1));
    thread::scope(|scope| {
        let running: Vec<_> = shares
            .map(|share| scope.spawn(|| share.iter().map(|seed| run(*seed)).collect::<Vec<_>>()))
            .collect();
        let ended = running
            .into_iter()
            .flat_map(|share| share.join().unwrap_or_else(|failed| resume_unwind(failed)));
        ended.collect()
    })
}

#[test]
fn every_seed_ends_with_every_batch_counted_once() {
    let asked = asked_for();
    let seeds: Vec<u64> = match asked.clone() {
        Some(seeds) => seeds.collect(),
        None => kept().into_iter().chain(SEEDS).collect(),
    };
    let (mut event_counts, mut slowest, mut slowest_with_losses) =
        (EventCounts::default(), Duration::ZERO, Duration::ZERO);
    for Report { record, recovery, .. } in on_every_core(&seeds, verify) {
        event_counts.merge(&record.event_counts);
        let slowest = if record.event_counts.of(Event::Purged) > 0 {
            &mut slowest_with_losses
        } else {
            &mut slowest
        };
        *slowest = recovery.max(*slowest);
    }
    println!(
        "{} seeds; the slowest recovery took {slowest:?}, after a purge {slowest_with_losses:?}\n{event_counts}",
        seeds.len()
    );
    // I7: the faults really happened.
    if asked.is_none() {
        for event in Event::ALL {
            assert!(event_counts.of(event) > 0, "{event:?} never happened");
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_event_by_event() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let [first, again] = [false, true].map(|keep| simulate(Scenario::of_seed(seed), keep));
        assert_eq!(first.record.trace_hash, again.record.trace_hash, "seed {seed}");
        assert_eq!(first.record.points, again.record.points, "seed {seed}");
        assert_eq!(
            first.record.event_counts, again.record.event_counts,
            "seed {seed}"
        );
        assert_eq!(first.recovery, again.recovery, "seed {seed}");
        hashes.insert(first.record.trace_hash);
    }
    assert_eq!(hashes.len(), 200, "two seeds gave the same run");
}

/// The checks are checked: each of these breaks a promise that the core must be able to rely on.
#[test]
fn a_port_that_breaks_its_promise_is_found_out() {
    for sabotage in [
        Sabotage::LedgerForgets,
        Sabotage::OutboxForgets,
        Sabotage::BrokerLosesConfirmed,
        Sabotage::BrokerForgetsUnsettled,
        Sabotage::NoReconciler,
    ] {
        let found = (0..500).find_map(|seed| {
            let report = simulate(Scenario::of_seed(seed).sabotaged(sabotage), false);
            let violation = report.record.violations.into_iter().next()?;
            Some((seed, violation))
        });
        let (seed, violation) = found.unwrap_or_else(|| panic!("{sabotage:?} was not found"));
        println!("{sabotage:?}: found by seed {seed}: {violation}");
    }
}
