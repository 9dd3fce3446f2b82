//! A quantile is within 1 % (in fact 1/128) of the value of its rank.

use proptest::prelude::*;

use crate::oracle::exact;
use crate::values::{statistics_of, values};

fn assert_quantiles(values: &[f64]) {
    let state = statistics_of(values);
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    for permille in [0, 1, 10, 70, 250, 290, 500, 900, 950, 990, 999, 1000] {
        let rank = (permille * sorted.len()).div_ceil(1000).max(1);
        let expected = sorted[rank - 1];
        let actual = state
            .quantile(permille as f64 / 1000.0)
            .expect("there are values");
        let difference = (exact(actual) - exact(expected)).pow(2);
        let allowed = exact(expected).pow(2) / exact(128.0 * 128.0);
        assert!(
            difference <= allowed,
            "q = {permille}/1000: {actual:e} for {expected:e}"
        );
        assert!((sorted[0]..=sorted[sorted.len() - 1]).contains(&actual));
    }
}

#[test]
fn a_thousand_log_normal_latencies() {
    let latencies: Vec<f64> = (1..=1000)
        .map(|index| 0.4 * (f64::from(index) / 250.0 - 2.0).exp())
        .collect();
    assert_quantiles(&latencies);
}

proptest! {
    #[test]
    fn quantiles_are_within_a_128th(values in values(200).prop_filter("not empty", |values| !values.is_empty())) {
        assert_quantiles(&values);
    }

    #[test]
    fn quantiles_ascend(values in values(200), a in 0.0..=1.0_f64, b in 0.0..=1.0_f64) {
        let state = statistics_of(&values);
        prop_assert!(state.quantile(a.min(b)) <= state.quantile(a.max(b)));
    }
}
