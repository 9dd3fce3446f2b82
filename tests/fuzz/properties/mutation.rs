//! Inputs near those of a corpus: what a fuzzer does without knowing what it reaches, the same on every run.

use std::{fs::File, io::Read, path::Path};

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, RngSeed},
};

/// The same cases on every run.
pub(crate) fn fixed(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(20_260_501),
        failure_persistence: None,
        ..Config::default()
    }
}

/// The inputs of a corpus, which is an archive: hundreds of files with a hash as their name tell nobody anything.
///
/// # Panics
/// There is none.
pub(crate) fn corpus(target: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fuzz/corpus/{target}.tar"));
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut archive = tar::Archive::new(file);
    let mut inputs: Vec<_> = archive
        .entries()
        .expect("an archive")
        .map(|entry| {
            let mut input = Vec::new();
            entry
                .expect("an entry")
                .read_to_end(&mut input)
                .expect("a whole entry");
            input
        })
        .collect();
    assert!(!inputs.is_empty(), "{} is empty", path.display());
    inputs.sort();
    inputs
}

/// Inputs of the corpus, cut and joined, with some bytes changed and some tokens put in.
pub(crate) fn near(target: &str, tokens: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let inputs = corpus(target);
    let other = (select(inputs.clone()), any::<Index>(), any::<Index>());
    (
        select(inputs),
        prop::option::of(other),
        vec((any::<Index>(), change(tokens)), 0..6),
    )
        .prop_map(|(mut bytes, other, changes)| {
            if let Some((other, keep, from)) = other {
                bytes.truncate(keep.index(bytes.len() + 1));
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
            for (index, change) in changes {
                change.apply(&mut bytes, index);
            }
            bytes
        })
}

#[derive(Debug, Clone)]
enum Change {
    Set(u8),
    Flip(u8),
    Insert(Vec<u8>),
    Remove,
}

fn change(tokens: &'static [&'static [u8]]) -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<u8>().prop_map(Change::Set),
        (0..8_u8).prop_map(Change::Flip),
        any::<u8>().prop_map(|byte| Change::Insert(vec![byte])),
        select(tokens).prop_map(|token| Change::Insert(token.to_vec())),
        Just(Change::Remove),
    ]
}

impl Change {
    fn apply(self, bytes: &mut Vec<u8>, index: Index) {
        let at = index.index(bytes.len() + 1);
        match self {
            Self::Insert(token) => drop(bytes.splice(at..at, token)),
            _ if at == bytes.len() => {}
            Self::Set(byte) => bytes[at] = byte,
            Self::Flip(bit) => bytes[at] ^= 1 << bit,
            Self::Remove => drop(bytes.remove(at)),
        }
    }
}
