use std::sync::Arc;

use super::*;

const SEEDS: [u64; 4] = [0, 1, 42, u64::MAX];
const GAMMA: [f64; 4] = [0.1, 0.5, 1.5, 3.0];

fn kinds() -> Vec<(Arrival, f64)> {
    let gamma = GAMMA.map(|cv| (Arrival::Gamma { cv }, cv));
    [(Arrival::Constant, 0.0), (Arrival::Poisson, 1.0)]
        .into_iter()
        .chain(gamma)
        .collect()
}

fn offsets(arrival: Arrival, rate: f64, ramp_up: Duration, seed: u64, n: usize) -> Vec<f64> {
    let arrivals = Arrivals::new(arrival, rate, ramp_up, seed).unwrap();
    arrivals.take(n).map(|due| due.as_secs_f64()).collect()
}

fn gaps(offsets: &[f64]) -> Vec<f64> {
    offsets.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: Vec<f64> = values.iter().map(|value| (value - mean).powi(2)).collect();
    self::mean(&squares).sqrt() / mean
}

/// 20 000 gaps: the mean's standard error is cv/√20000, so five of them are the bound. The sample's variation of a gamma
/// distribution has a relative standard error of about √((1 + cv²)/(2n) ...) ≤ 4 % at cv = 3: bound 15 %.
#[test]
fn gaps_have_the_asked_mean_and_variation() {
    let rate = 250.0;
    for (arrival, cv) in kinds() {
        for seed in SEEDS {
            let gaps = gaps(&offsets(arrival, rate, Duration::ZERO, seed, 20_001));
            let off = (mean(&gaps) * rate - 1.0).abs();
            assert!(
                off <= 5.0 * cv / 20_000_f64.sqrt() + 1e-6,
                "{arrival:?}, seed {seed}: {off}"
            );
            let found = variation(&gaps);
            assert!(
                (found - cv).abs() <= 0.15 * cv + 1e-6,
                "{arrival:?}, seed {seed}: {found}"
            );
        }
    }
}

#[test]
fn the_first_is_due_at_once_and_none_before_its_predecessor() {
    for (arrival, _) in kinds() {
        for ramp_up in [Duration::ZERO, Duration::from_secs(3)] {
            let offsets = offsets(arrival, 1000.0, ramp_up, 7, 10_000);
            assert_eq!(offsets[0], 0.0, "{arrival:?}");
            assert!(offsets.is_sorted(), "{arrival:?}");
        }
    }
}

/// By time t, Λ(t) requests are due: exactly for constant gaps, within five standard deviations (cv √Λ) for the others.
#[test]
#[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
fn a_ramp_cumulates_as_its_integrated_rate() {
    let (rate, ramp_s) = (400.0, 10.0);
    for (arrival, cv) in kinds() {
        for seed in SEEDS {
            let offsets = offsets(arrival, rate, Duration::from_secs(10), seed, 10_000);
            for t in [1.0, 2.5, 5.0, 9.99, 10.0, 12.0, 20.0] {
                let due = offsets.partition_point(|offset| *offset < t) as f64;
                let expected = if t < ramp_s {
                    rate * t * t / (2.0 * ramp_s)
                } else {
                    rate * (t - ramp_s / 2.0)
                };
                let bound = 5.0 * cv * expected.sqrt() + 2.0 + 5.0 * cv;
                assert!(
                    (due - expected).abs() <= bound,
                    "{arrival:?}, seed {seed}, {t} s: {due} due, {expected} expected"
                );
            }
        }
    }
}

/// The same operational times, read through another rate: what an arrival is due at does not depend on what was drawn and
/// thrown away.
#[test]
fn a_ramp_only_stretches_the_gaps() {
    for (arrival, _) in kinds() {
        let flat = offsets(arrival, 100.0, Duration::ZERO, 3, 2_000);
        let ramped = offsets(arrival, 100.0, Duration::from_secs(4), 3, 2_000);
        for (flat, ramped) in flat.iter().zip(&ramped).filter(|(flat, _)| **flat >= 2.0) {
            assert!((ramped - flat - 2.0).abs() < 1e-6, "{arrival:?}: {flat} {ramped}");
        }
    }
}

#[test]
fn one_seed_gives_one_schedule() {
    for (arrival, cv) in kinds() {
        let draw = |seed| offsets(arrival, 50.0, Duration::from_secs(1), seed, 100);
        assert_eq!(draw(5), draw(5));
        assert_eq!(draw(5) == draw(6), cv == 0.0, "{arrival:?}");
    }
}

#[test]
fn constant_gaps_do_not_drift() {
    let last = Arrivals::new(Arrival::Constant, 1000.0, Duration::ZERO, 0)
        .unwrap()
        .nth(1_000_000);
    assert_eq!(last, Some(Duration::from_secs(1_000)));
}

#[test]
fn what_is_no_rate_or_variation_is_refused() {
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = Arrivals::new(Arrival::Poisson, rate, Duration::ZERO, 0);
        assert!(matches!(refused, Err(ArrivalsError::Rate(_))), "{rate}");
    }
    for cv in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        let refused = Arrivals::new(Arrival::Gamma { cv }, 1.0, Duration::ZERO, 0);
        assert!(matches!(refused, Err(ArrivalsError::Variation(_))), "{cv}");
    }
}

#[test]
fn a_trace_runs_at_its_speed() {
    let offsets: Arc<[Duration]> = [0, 1000, 1000, 5000].map(Duration::from_millis).into();
    let twice: Vec<_> = TraceArrivals::new(offsets, 2.0).unwrap().collect();
    assert_eq!(twice, [0, 500, 500, 2500].map(Duration::from_millis));
}

#[test]
fn a_trace_that_goes_back_is_refused() {
    let offsets: Arc<[Duration]> = [0, 2, 1].map(Duration::from_secs).into();
    let refused = TraceArrivals::new(offsets.clone(), 1.0).unwrap_err();
    assert!(matches!(refused, TraceArrivalsError::Unordered { index: 2, .. }));
    assert!(TraceArrivals::new(offsets, f64::NAN).is_err());
}
