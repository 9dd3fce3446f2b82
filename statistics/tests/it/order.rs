//! The state depends on the values alone: not on their order, their split or the tree of merges.

use proptest::prelude::*;
use statistics::RunningStatistics;

use crate::values::{any_bits, statistics_of, values};

/// Values, the same in another order, and random numbers that choose splits and merges.
fn reordered() -> impl Strategy<Value = (Vec<f64>, Vec<f64>, Vec<prop::sample::Index>)> {
    values(120).prop_flat_map(|values| {
        let shuffled = Just(values.clone()).prop_shuffle();
        (
            Just(values),
            shuffled,
            prop::collection::vec(any::<prop::sample::Index>(), 1..20),
        )
    })
}

/// Cuts the values at random places and merges the parts pair by random pair.
fn merged_in_parts(values: &[f64], choices: &[prop::sample::Index]) -> RunningStatistics {
    let mut cuts: Vec<usize> = choices
        .iter()
        .map(|choice| choice.index(values.len() + 1))
        .collect();
    cuts.extend([0, values.len()]);
    cuts.sort_unstable();
    let mut parts: Vec<_> = cuts
        .windows(2)
        .map(|cut| statistics_of(&values[cut[0]..cut[1]]))
        .collect();
    let mut choices = choices.iter().cycle();
    while let Some(part) = parts.pop() {
        if parts.is_empty() {
            return part;
        }
        let other = choices.next().expect("there is a choice").index(parts.len());
        parts[other].merge(&part).expect("few values");
    }
    unreachable!("there is at least one part")
}

proptest! {
    #[test]
    fn every_order_split_and_tree_of_merges_gives_the_same_bytes((values, shuffled, choices) in reordered()) {
        let at_once = statistics_of(&values);
        let in_parts = merged_in_parts(&shuffled, &choices);
        prop_assert_eq!(&in_parts, &at_once);
        prop_assert_eq!(in_parts.exact_sum(), at_once.exact_sum());
        prop_assert_eq!(in_parts.to_bytes(), at_once.to_bytes());
        let bits = |value: Option<f64>| value.map(f64::to_bits);
        prop_assert_eq!(bits(in_parts.mean()), bits(at_once.mean()));
        prop_assert_eq!(bits(in_parts.stddev()), bits(at_once.stddev()));
        prop_assert_eq!(bits(in_parts.min()), bits(at_once.min()));
        prop_assert_eq!(bits(in_parts.quantile(0.95)), bits(at_once.quantile(0.95)));
    }

    #[test]
    fn one_value_at_a_time_is_all_at_once(values in values(60)) {
        let mut one_by_one = RunningStatistics::new();
        for &value in &values {
            one_by_one.try_extend(&[value]).expect("finite");
        }
        prop_assert_eq!(one_by_one, statistics_of(&values));
    }

    #[test]
    fn another_value_shows(values in values(60), added in any_bits()) {
        let state = statistics_of(&values);
        let mut more = state.clone();
        more.try_extend(&[added]).expect("finite");
        prop_assert_ne!(more.to_bytes(), state.to_bytes());
        prop_assert_eq!(more.exact_sum() == state.exact_sum(), added == 0.0);
    }

    #[test]
    fn extremes_are_those_of_the_values(values in values(60)) {
        let state = statistics_of(&values);
        prop_assert_eq!(state.min(), values.iter().copied().reduce(f64::min));
        prop_assert_eq!(state.max(), values.iter().copied().reduce(f64::max));
    }
}
