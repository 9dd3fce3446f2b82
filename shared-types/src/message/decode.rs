use std::borrow::Cow;

use serde::Deserialize;

use super::{MAX_BATCHES, MAX_BODY_BYTES, SCHEMA_VERSION, timestamp};
use crate::{
    BatchContent, BatchId, Checksum, Invalid, LlmName, Metadata, MetricBatch, MetricTitle, Provenance, RunId,
    Source, Unit, Values,
};

/// Why a body is not a message. All of these are permanent: the same body will never be accepted.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The body is over the limit.
    #[error("the body has {bytes} bytes, expected at most {MAX_BODY_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The body is not JSON, or a field has the wrong JSON type.
    #[error("{}: {source}", if matches!(path.as_str(), "." | "?") { "the body" } else { path })]
    Json {
        /// Where in the body, such as `[2].values[17]`.
        path: String,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// An array without batches: it says nothing, so it is not a message.
    #[error("found an empty array, expected at least one batch")]
    NoBatches,
    /// More batches than one message may hold.
    #[error("found {count} batches, expected at most {MAX_BATCHES}")]
    TooManyBatches {
        /// How many.
        count: usize,
    },
    /// A field has a value that is not accepted.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

#[derive(Deserialize)]
#[serde(expecting = "a batch: an object with llm_name, metric, values and timestamp")]
struct Message<'a> {
    schema_version: Option<u64>,
    id: Option<uuid::Uuid>,
    #[serde(borrow)]
    llm_name: Cow<'a, str>,
    #[serde(borrow)]
    metric: Cow<'a, str>,
    #[serde(borrow)]
    unit: Option<Cow<'a, str>>,
    values: Vec<f64>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    run_id: Option<Cow<'a, str>>,
    seed: Option<u64>,
    sequence: Option<u64>,
    metadata: Option<Metadata>,
    #[serde(borrow)]
    checksum: Option<Cow<'a, str>>,
}

/// Reads the batches of a message: one object, or an array of them.
///
/// A missing `id` is derived from the content, a missing `source` is `imported`, fields this version does not know
/// are ignored. One batch that cannot be read refuses the whole message.
///
/// # Errors
/// Says which field of which batch was refused, what was found and what is expected.
pub fn decode(body: &[u8]) -> Result<Vec<MetricBatch>, DecodeError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(DecodeError::TooLarge { bytes: body.len() });
    }
    if body.trim_ascii_start().first() != Some(&b'[') {
        return Ok(vec![accept(parse::<Message>(body)?)?]);
    }
    let messages = parse::<Vec<Message>>(body)?;
    match messages.len() {
        0 => Err(DecodeError::NoBatches),
        count if count > MAX_BATCHES => Err(DecodeError::TooManyBatches { count }),
        _ => messages
            .into_iter()
            .enumerate()
            .map(|(index, message)| {
                accept(message).map_err(|refused| refused.within(&format!("[{index}]")).into())
            })
            .collect(),
    }
}

/// Parses at full speed; only a refused body is parsed a second time, to learn the path of what was refused.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(body).map_err(|source| {
        let mut again = serde_json::Deserializer::from_slice(body);
        let path = match serde_path_to_error::deserialize::<_, T>(&mut again) {
            Err(refused) => refused.path().to_string(),
            Ok(_) => ".".to_owned(),
        };
        DecodeError::Json { path, source }
    })
}

fn accept(message: Message<'_>) -> Result<MetricBatch, Invalid> {
    let version = message.schema_version.unwrap_or(SCHEMA_VERSION.into());
    if version == 0 || version > SCHEMA_VERSION.into() {
        return Err(Invalid::new(
            "schema_version",
            version,
            format!("1 to {SCHEMA_VERSION}"),
        ));
    }
    let content = BatchContent {
        llm: LlmName::new(&message.llm_name)?,
        metric: MetricTitle::new(&message.metric)?,
        unit: message.unit.as_deref().map(Unit::new).transpose()?,
        values: Values::new(message.values)?,
        timestamp: timestamp::parse(&message.timestamp)?,
        provenance: Provenance {
            source: message
                .source
                .as_deref()
                .map_or(Ok(Source::Imported), str::parse)?,
            run_id: message.run_id.as_deref().map(RunId::new).transpose()?,
            seed: message.seed,
            sequence: message.sequence,
            metadata: message.metadata.unwrap_or_default(),
        },
    };
    let batch = match message.id {
        Some(id) => MetricBatch::new(BatchId::from(id), content),
        None => MetricBatch::with_derived_id(content),
    };
    match message.checksum {
        Some(given) => verified(batch, &given),
        None => Ok(batch),
    }
}

fn verified(batch: MetricBatch, given: &str) -> Result<MetricBatch, Invalid> {
    let expected = || format!("{}, the checksum of this content", batch.checksum());
    match given.parse::<Checksum>() {
        Ok(checksum) if checksum == batch.checksum() => Ok(batch),
        Ok(_) | Err(crate::InvalidChecksum) => Err(Invalid::new("checksum", given, expected())),
    }
}
