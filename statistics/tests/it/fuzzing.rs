//! The fuzzer's corpus, and many inputs near it, the same on every run.

#[path = "../../../tests/fuzz/properties/mutation.rs"]
mod mutation;

use proptest::prelude::*;

use crate::merging;

const TARGET: &str = "statistics_merge";

/// Numbers of the format, and doubles that are hard to add.
const TOKENS: &[&[u8]] = &[
    &[0],
    &[1, 0],
    &[0x80, 1],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
    &0.1_f64.to_le_bytes(),
    &(-0.0_f64).to_le_bytes(),
    &f64::MAX.to_le_bytes(),
    &f64::MIN.to_le_bytes(),
    &f64::MIN_POSITIVE.to_le_bytes(),
    &f64::NAN.to_le_bytes(),
    &f64::INFINITY.to_le_bytes(),
    &1_u64.to_le_bytes(),
];

#[test]
fn the_corpus_does_no_harm() {
    mutation::corpus(TARGET)
        .iter()
        .for_each(|bytes| merging::holds(bytes));
}

proptest! {
    #![proptest_config(mutation::fixed(20_000))]

    #[test]
    fn bytes_near_the_corpus_do_no_harm(bytes in mutation::near(TARGET, TOKENS)) {
        merging::holds(&bytes);
    }
}
