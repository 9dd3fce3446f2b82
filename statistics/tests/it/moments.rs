//! Mean, variance and deviation are the exact ones, rounded once.

use proptest::prelude::*;

use crate::oracle::{self, assert_rounded, assert_rounded_root};
use crate::values::{statistics_of, values};

fn assert_moments(values: &[f64]) {
    let state = statistics_of(values);
    assert_eq!(state.count(), values.len() as u64);
    assert_rounded(state.sum(), &oracle::sum(values));
    if values.is_empty() {
        assert_eq!(state.mean(), None);
    } else {
        assert_rounded(state.mean(), &oracle::mean(values));
    }
    if values.len() < 2 {
        assert_eq!((state.variance(), state.stddev()), (None, None));
    } else {
        let variance = oracle::variance(values);
        assert_rounded(state.variance(), &variance);
        assert_rounded_root(state.stddev(), &variance);
    }
}

#[test]
fn data_that_break_running_means() {
    let smallest = f64::from_bits(1);
    let hostile: &[&[f64]] = &[
        &[1e308, 1e308, -1e308, 1e308],
        &[smallest, smallest, 0.0],
        &[smallest, -3.0 * smallest],
        &[-0.0, -0.0],
        &[0.1, 0.2, 0.3, 1e16, -1e16],
        &[f64::MAX, f64::MAX, f64::MIN],
        &[f64::MAX, smallest],
        &[1e200, 1.0, -1e200],
        &[1e-170, 2e-170],
        &[1e9 - 1e-3, 1e9, 1e9 + 1e-3],
    ];
    for values in hostile {
        assert_moments(values);
    }
}

#[test]
fn a_large_mean_does_not_swallow_a_small_deviation() {
    // Multiples of 2^-20 are exact at 1e9, so that the variance is that of 0, 1, … 999 in squared steps.
    let step = 1.0 / 1_048_576.0;
    let values: Vec<f64> = (0..1000).map(|index| 1e9 + f64::from(index) * step).collect();
    let state = statistics_of(&values);
    assert_eq!(state.mean(), Some(1e9 + 499.5 * step));
    assert_eq!(state.variance(), Some(1000.0 * 1001.0 / 12.0 * step * step));
}

proptest! {
    #[test]
    fn moments_are_correctly_rounded(values in values(40)) {
        assert_moments(&values);
    }

    #[test]
    fn the_interval_is_centred_on_the_mean(values in prop::collection::vec(0.05..10.0_f64, 2..200)) {
        let state = statistics_of(&values);
        let (low, high) = state.ci95().expect("two values of this size have an interval");
        let (mean, stddev) = (state.mean().unwrap(), state.stddev().unwrap());
        prop_assert!(low <= mean && mean <= high);
        let margin = stddev / (values.len() as f64).sqrt();
        // Student's quantile lies between that of the normal distribution and that of one degree of freedom.
        prop_assert!((high - low) / 2.0 >= 1.9599 * margin * (1.0 - 1e-9));
        prop_assert!((high - low) / 2.0 <= 12.7063 * margin * (1.0 + 1e-9) + 1e-12);
    }
}
