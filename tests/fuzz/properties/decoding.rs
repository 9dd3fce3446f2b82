//! What holds for every body that somebody may send as a message.

use shared_types::{MetricBatch, message};

/// No body does harm; what is accepted keeps every limit, and is the same when it is written and read again.
///
/// # Panics
/// Where it does not hold.
pub(crate) fn holds(body: &[u8]) {
    let Ok(batches) = message::decode(body) else {
        return;
    };
    assert!((1..=message::MAX_BATCHES).contains(&batches.len()));
    for batch in &batches {
        keeps_the_limits(batch);
        let written = message::encode(batch);
        assert!(written.len() <= message::MAX_BODY_BYTES);
        let read = message::decode(&written).expect("what we write");
        assert!(
            matches!(&read[..], [again] if same(again, batch)),
            "{batch:?} became {read:?}"
        );
    }
}

fn keeps_the_limits(batch: &MetricBatch) {
    let texts = [
        Some(batch.llm().as_str()),
        Some(batch.metric().as_str()),
        batch.content().unit.as_ref().map(shared_types::Unit::as_str),
        batch
            .provenance()
            .run_id
            .as_ref()
            .map(shared_types::RunId::as_str),
    ];
    for text in texts.into_iter().flatten() {
        assert!((1..=200).contains(&text.chars().count()), "{text:?}");
        assert!(!text.contains(char::is_control), "{text:?}");
        assert_eq!(text, text.trim());
    }
    let values = batch.values();
    assert!((1..=shared_types::MAX_VALUES).contains(&values.len()));
    assert!(values.iter().all(|value| value.is_finite()));
    assert!((0..=253_402_300_799).contains(&batch.timestamp().timestamp()));
}

/// Equal to the last bit: `==` takes −0 for 0.
fn same(one: &MetricBatch, other: &MetricBatch) -> bool {
    let bits = |batch: &MetricBatch| {
        batch
            .values()
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    one == other && one.checksum() == other.checksum() && bits(one) == bits(other)
}
