//! Bytes come back as the state they were; other bytes are refused without harm.

use proptest::collection::vec;
use proptest::prelude::*;
use statistics::RunningStatistics;

use crate::{
    merging::is_harmless,
    values::{any_bits, statistics_of, values},
};

#[derive(Debug, Clone)]
enum Mutation {
    Set(u8),
    Flip(u8),
    Insert(u8),
    Remove,
}

fn mutation() -> impl Strategy<Value = (prop::sample::Index, Mutation)> {
    let kind = prop_oneof![
        any::<u8>().prop_map(Mutation::Set),
        (0..8_u8).prop_map(Mutation::Flip),
        any::<u8>().prop_map(Mutation::Insert),
        Just(Mutation::Remove),
    ];
    (any::<prop::sample::Index>(), kind)
}

fn mutate(bytes: &mut Vec<u8>, mutations: &[(prop::sample::Index, Mutation)]) {
    for (index, mutation) in mutations {
        if bytes.is_empty() {
            return;
        }
        let position = index.index(bytes.len());
        match *mutation {
            Mutation::Set(byte) => bytes[position] = byte,
            Mutation::Flip(bit) => bytes[position] ^= 1 << bit,
            Mutation::Insert(byte) => bytes.insert(position, byte),
            Mutation::Remove => drop(bytes.remove(position)),
        }
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

/// Bytes that keep to the grammar and to nothing else, which random bytes never do for long.
fn grammatical() -> impl Strategy<Value = Vec<u8>> {
    let number = || prop_oneof![0..4_u64, 0..5000_u64, any::<u64>()];
    let exact = || (vec(any::<u8>(), 0..30), any::<bool>(), number());
    (
        number(),
        any_bits(),
        any_bits(),
        exact(),
        exact(),
        vec(number(), 0..30),
    )
        .prop_map(|(count, min, max, sum, squares, buckets)| {
            let mut bytes = vec![1];
            bytes.extend(varint(count));
            bytes.extend(min.to_le_bytes());
            bytes.extend(max.to_le_bytes());
            for (magnitude, negative, position) in [sum, squares] {
                bytes.extend(varint((magnitude.len() as u64) << 1 | u64::from(negative)));
                bytes.extend(varint(position));
                bytes.extend(magnitude);
            }
            bytes.extend(buckets.into_iter().flat_map(varint));
            bytes
        })
}

#[test]
fn a_thousand_latencies_take_less_than_half_a_kilobyte() {
    // Evenly spread ranks of a logistic distribution of the logarithm: longer tails than the log-normal.
    let latencies: Vec<f64> = (1..=1000)
        .map(|rank| f64::from(rank) / 1001.0)
        .map(|p| 0.4 * (0.3 * (p / (1.0 - p)).ln()).exp())
        .collect();
    let length = statistics_of(&latencies).to_bytes().len();
    assert!(length < 500, "{length} bytes");
}

proptest! {
    #[test]
    fn a_state_survives_the_round_trip(values in values(120)) {
        let state = statistics_of(&values);
        prop_assert_eq!(RunningStatistics::from_bytes(&state.to_bytes()), Ok(state));
    }

    #[test]
    fn equal_bytes_are_equal_states(a in values(3), b in values(3)) {
        let (a, b) = (statistics_of(&a), statistics_of(&b));
        prop_assert_eq!(a == b, a.to_bytes() == b.to_bytes());
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        is_harmless(&bytes);
    }

    #[test]
    fn grammatical_bytes_do_no_harm(bytes in grammatical()) {
        is_harmless(&bytes);
    }

    #[test]
    fn mutated_bytes_do_no_harm(values in values(30), mutations in vec(mutation(), 1..4)) {
        let mut bytes = statistics_of(&values).to_bytes();
        mutate(&mut bytes, &mutations);
        is_harmless(&bytes);
    }

    #[test]
    fn a_cut_state_is_refused(values in values(30), cut in any::<prop::sample::Index>()) {
        let bytes = statistics_of(&values).to_bytes();
        let cut = cut.index(bytes.len());
        prop_assert!(RunningStatistics::from_bytes(&bytes[..cut]).is_err());
    }
}
