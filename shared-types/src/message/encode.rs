use chrono::SecondsFormat;
use serde::Serialize;

use super::SCHEMA_VERSION;
use crate::{Metadata, MetricBatch, RunId, Unit};

#[derive(Serialize)]
struct Message<'a> {
    schema_version: u32,
    id: crate::BatchId,
    llm_name: &'a str,
    metric: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    timestamp: String,
    source: crate::Source,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Metadata>,
    checksum: String,
    values: &'a [f64],
}

/// The batch as a JSON message. Every double is written with the shortest digits that read back to the same bits.
#[must_use]
pub fn encode(batch: &MetricBatch) -> Vec<u8> {
    let provenance = batch.provenance();
    let message = Message {
        schema_version: SCHEMA_VERSION,
        id: batch.id(),
        llm_name: batch.llm().as_str(),
        metric: batch.metric().as_str(),
        unit: batch.content().unit.as_ref().map(Unit::as_str),
        timestamp: batch.timestamp().to_rfc3339_opts(SecondsFormat::Micros, true),
        source: provenance.source,
        run_id: provenance.run_id.as_ref().map(RunId::as_str),
        seed: provenance.seed,
        sequence: provenance.sequence,
        metadata: Some(&provenance.metadata).filter(|metadata| !metadata.is_empty()),
        checksum: batch.checksum().to_string(),
        values: batch.values(),
    };
    const ENVELOPE_BYTES: usize = 512;
    const BYTES_PER_VALUE: usize = 20;
    let mut body = Vec::with_capacity(ENVELOPE_BYTES + BYTES_PER_VALUE * batch.values().len());
    #[expect(
        clippy::expect_used,
        reason = "a Vec takes every write, and no field can refuse to serialise"
    )]
    serde_json::to_writer(&mut body, &message).expect("serialising into memory");
    body
}
