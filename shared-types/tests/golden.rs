//! Every accepted and refused form of a message, from files that other producers' authors can read too.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{fmt::Write, fs, path::PathBuf};

use proptest::prelude::*;
use shared_types::{
    BatchContent, BatchId, LlmName, Metadata, MetricBatch, MetricTitle, Provenance, RunId, Source, Unit,
    Values, message,
};

fn golden(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn accepted_forms_decode_to_what_they_say() {
    let mut read = String::new();
    for (name, body) in golden("accepted") {
        for batch in message::decode(&body).unwrap() {
            let reencoded = String::from_utf8(message::encode(&batch)).unwrap();
            writeln!(read, "{name}: {reencoded}").unwrap();
        }
    }
    insta::assert_snapshot!(read);
}

#[test]
fn refused_forms_say_what_was_wrong() {
    let mut reasons = String::new();
    for (name, body) in golden("refused") {
        writeln!(reasons, "{name}: {}", message::decode(&body).unwrap_err()).unwrap();
    }
    insta::assert_snapshot!(reasons);
}

#[test]
fn bodies_and_arrays_over_the_limits_are_refused() {
    let huge = vec![b' '; message::MAX_BODY_BYTES + 1];
    assert!(
        message::decode(&huge)
            .unwrap_err()
            .to_string()
            .contains("expected at most 16777216")
    );

    let one = r#"{"llm_name":"a","metric":"b","values":[1],"timestamp":"2024-09-27T11:29:13Z"}"#;
    let many = format!("[{}]", vec![one; message::MAX_BATCHES + 1].join(","));
    assert!(
        message::decode(many.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("found 10001 batches")
    );

    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(message::decode(deep.as_bytes()).is_err());
}

#[test]
fn a_redelivery_without_an_id_gets_the_same_id() {
    let (_, body) = golden("accepted")
        .into_iter()
        .find(|(name, _)| name == "older_array")
        .unwrap();
    let ids = |body: &[u8]| {
        message::decode(body)
            .unwrap()
            .iter()
            .map(MetricBatch::id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&body), ids(&body));
    assert_ne!(ids(&body)[0], ids(&body)[1]);
}

fn batches() -> impl Strategy<Value = MetricBatch> {
    let finite =
        prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO | prop::num::f64::NEGATIVE;
    let finite = finite.prop_filter("finite", |value| value.is_finite());
    (
        prop::collection::vec(finite, 1..200),
        "[^\\p{Cc}\\s][^\\p{Cc}]{0,40}[^\\p{Cc}\\s]",
        0_i64..253_402_300_799_000_000,
        prop::option::of(any::<u64>()),
        prop::sample::select(Source::ALL.to_vec()),
    )
        .prop_map(|(values, llm, micros, seed, source)| {
            MetricBatch::with_derived_id(BatchContent {
                llm: LlmName::new(&llm).unwrap(),
                metric: MetricTitle::new("ttft").unwrap(),
                unit: Some(Unit::new("s").unwrap()),
                values: Values::new(values).unwrap(),
                timestamp: chrono::DateTime::from_timestamp_micros(micros).unwrap(),
                provenance: Provenance {
                    source,
                    run_id: Some(RunId::new("run 1").unwrap()),
                    seed,
                    sequence: seed.map(|s| s / 2),
                    metadata: Metadata::new(
                        seed.map(|seed| ("seed".to_owned(), seed.into()))
                            .into_iter()
                            .collect(),
                    )
                    .unwrap(),
                },
            })
        })
}

proptest! {
    #[test]
    fn every_batch_reads_back_bit_for_bit(batch in batches()) {
        let back = message::decode(&message::encode(&batch)).unwrap();
        prop_assert_eq!(back.len(), 1);
        prop_assert_eq!(&back[0], &batch);
        let bits = |batch: &MetricBatch| batch.values().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&back[0]), bits(&batch));
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _: Result<_, _> = message::decode(&body);
    }
}

#[test]
fn ids_sort_by_their_time() {
    let at = |millis| chrono::DateTime::from_timestamp_millis(millis).unwrap();
    let (early, late) = (
        BatchId::new(at(1_000), [255; 10]),
        BatchId::new(at(2_000), [0; 10]),
    );
    assert!(early < late);
    assert_eq!(early.as_uuid().get_version_num(), 7);
}
