//! The data of the properties: everything that has ever broken a running mean.

use proptest::collection::vec;
use proptest::prelude::*;
use statistics::RunningStatistics;

/// Up to `most` finite doubles of one kind, or of all kinds together.
pub(crate) fn values(most: usize) -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        vec(any_bits(), 0..=most),
        vec(corner(), 0..=most),
        vec(large_mean_small_spread(), 0..=most),
        vec(latency(), 0..=most),
        vec(
            prop_oneof![any_bits(), corner(), large_mean_small_spread(), latency()],
            0..=most
        ),
    ]
}

/// Every finite double is as likely as every other: exponents all over the range, subnormals included.
pub(crate) fn any_bits() -> impl Strategy<Value = f64> {
    any::<u64>()
        .prop_map(f64::from_bits)
        .prop_filter("finite", |value| value.is_finite())
}

fn corner() -> impl Strategy<Value = f64> {
    let smallest = f64::from_bits(1);
    let largest_subnormal = f64::MIN_POSITIVE.next_down();
    prop::sample::select(vec![
        0.0,
        -0.0,
        smallest,
        -smallest,
        largest_subnormal,
        f64::MIN_POSITIVE,
        -f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
        1e308,
        -1e308,
        1e16,
        -1e16,
        0.1,
        0.2,
        0.3,
        1.0,
        1.0f64.next_up(),
        1.0f64.next_down(),
        -1.0,
    ])
}

fn large_mean_small_spread() -> impl Strategy<Value = f64> {
    (-1.0..1.0_f64).prop_map(|deviation| 1e9 + 1e-3 * deviation)
}

fn latency() -> impl Strategy<Value = f64> {
    (-3.0..3.0_f64).prop_map(|log| 0.4 * log.exp())
}

pub(crate) fn statistics_of(values: &[f64]) -> RunningStatistics {
    RunningStatistics::try_from(values).expect("the values are finite")
}
