//! How much memory a batch and its message take, estimated from above.

use shared_types::{MAX_VALUES, Metadata, MetricBatch};

/// A double in JSON: 17 significant digits with sign, point, exponent and comma; 19 bytes are usual.
const MESSAGE_BYTES_PER_VALUE: usize = 25;
/// Everything else of a batch or its message: ids, names, timestamps, provenance, and what allocations waste.
const OVERHEAD_BYTES: usize = 1024;
/// Metadata, where there is any: as a tree of maps it takes more than its text.
const METADATA_BYTES: usize = 2 * Metadata::MAX_BYTES;

/// What a batch takes in memory, estimated from above.
pub(crate) fn batch_bytes(batch: &MetricBatch) -> usize {
    OVERHEAD_BYTES + metadata_bytes(batch) + size_of_val(batch.values())
}

/// What its message takes, estimated from above.
pub(crate) fn message_bytes(batch: &MetricBatch) -> usize {
    OVERHEAD_BYTES + metadata_bytes(batch) + batch.values().len() * MESSAGE_BYTES_PER_VALUE
}

/// What the largest batch that can exist takes.
pub(crate) const LARGEST_BATCH: usize = OVERHEAD_BYTES + METADATA_BYTES + MAX_VALUES * size_of::<f64>();
/// What its message takes.
pub(crate) const LARGEST_MESSAGE: usize =
    OVERHEAD_BYTES + METADATA_BYTES + MAX_VALUES * MESSAGE_BYTES_PER_VALUE;

fn metadata_bytes(batch: &MetricBatch) -> usize {
    if batch.provenance().metadata.is_empty() {
        0
    } else {
        METADATA_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use shared_types::{BatchContent, LlmName, MetricTitle, Provenance, Values};

    #[test]
    fn the_estimate_is_never_too_small() {
        let longest = -1.234_567_890_123_456_7e-300;
        let longest_text = serde_json::Map::from_iter([("a".to_owned(), "x".repeat(4000).into())]);
        for (n, metadata) in [1, 1000, MAX_VALUES].into_iter().flat_map(|n| {
            [
                (n, Metadata::default()),
                (n, Metadata::new(longest_text.clone()).unwrap()),
            ]
        }) {
            let batch = MetricBatch::with_derived_id(BatchContent {
                llm: LlmName::new("a name of some length").unwrap(),
                metric: MetricTitle::new("ttft").unwrap(),
                unit: None,
                values: Values::new(vec![longest; n]).unwrap(),
                timestamp: DateTime::<Utc>::UNIX_EPOCH,
                provenance: Provenance {
                    metadata,
                    ..Provenance::imported()
                },
            });
            let message = crate::outgoing_message(&batch).body.len();
            assert!(LARGEST_MESSAGE >= message_bytes(&batch) && LARGEST_BATCH >= batch_bytes(&batch));
            assert!(message_bytes(&batch) >= message, "{n} values: {message} bytes");
            assert!(batch_bytes(&batch) >= size_of_val(batch.values()) + size_of::<MetricBatch>());
        }
    }
}
