//! A small scenario, crashed at every point where a process touches database or broker: before and after each effect.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    event_counts::{Event, EventCounts},
    scenario::Scenario,
    simulation::{Report, simulate},
};

/// Crashes at the points, and demands that all is well in the end.
fn verify(crashes: impl IntoIterator<Item = u64>) -> Report {
    let crashes: BTreeSet<u64> = crashes.into_iter().collect();
    let report = simulate(Scenario::small(crashes.clone()), false);
    if report.record.violations.is_empty() {
        return report;
    }
    let again = simulate(Scenario::small(crashes.clone()), true);
    panic!(
        "{}\n\ncrashes at the points {crashes:?}: {:#?}",
        again.record.trace.join("\n"),
        report.record.violations
    );
}

#[test]
fn a_crash_at_any_point_is_healed() {
    let last = verify([]).busy_points;
    let (mut slowest, mut event_counts) = (Duration::ZERO, EventCounts::default());
    for point in 1..=last {
        let Report { record, recovery, .. } = verify([point]);
        assert_eq!(
            record.event_counts.of(Event::Crash),
            1,
            "point {point} was not reached"
        );
        slowest = slowest.max(recovery);
        event_counts.merge(&record.event_counts);
    }
    println!("{last} points, the slowest recovery in {slowest:?}:\n{event_counts}");
    for event in [Event::Redelivered, Event::DuplicateNotCounted, Event::Swept] {
        assert!(event_counts.of(event) > 0, "{event:?} never happened");
    }
}

/// Also crashes during the recovery from the first.
#[test]
fn two_crashes_at_any_points_are_healed() {
    /// How many points after the first crash the second may come.
    const REACH: u64 = 48;
    let last = verify([]).busy_points;
    let (mut pairs, mut twice) = (0, 0);
    for first in 1..=last {
        for second in first + 1..=first + REACH {
            let report = verify([first, second]);
            pairs += 1;
            twice += u32::from(report.record.event_counts.of(Event::Crash) == 2);
        }
    }
    println!("{pairs} pairs of points, {twice} with both crashes");
    assert!(
        twice > pairs / 2,
        "only {twice} of {pairs} runs reached both points"
    );
}
