//! `Idempotency-Key`: the batches of a request have the same ids in every retry of it.

use actix_web::http::header::{HeaderValue, ToStrError};
use shared_types::{BatchId, Invalid, MetricBatch};
use uuid::Uuid;

/// Reads the header.
///
/// # Errors
/// It is empty, too long, or not visible ASCII.
pub(super) fn key(value: &HeaderValue) -> Result<&str, Invalid> {
    const LONGEST: usize = 200;
    let refused = || {
        let found = String::from_utf8_lossy(value.as_bytes())
            .escape_debug()
            .to_string();
        Invalid::new(
            "Idempotency-Key",
            found,
            format!("1 to {LONGEST} visible ASCII characters"),
        )
    };
    let key = value.to_str().map_err(|_: ToStrError| refused())?;
    if key.is_empty() || key.len() > LONGEST {
        return Err(refused());
    }
    Ok(key)
}

/// Gives a batch without an id one that is derived from the request's key: the same in every retry, and different from
/// the id of an equal batch in another request.
pub(super) fn with_derived_id(namespace: &str, key: &str, index: u64, batch: MetricBatch) -> MetricBatch {
    if batch.id() != BatchId::from_content(&batch.checksum()) {
        return batch;
    }
    let mut hasher = blake3::Hasher::new_derive_key("llm-bench 2026 batch id of an Idempotency-Key");
    for part in [namespace.as_bytes(), key.as_bytes(), &index.to_le_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    MetricBatch::new(Uuid::new_v8(id).into(), batch.content().clone())
}

#[cfg(test)]
mod tests {
    use shared_types::message;

    use super::*;

    fn batch(json: &str) -> MetricBatch {
        message::decode(json.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn a_key_names_batches_without_an_id() {
        let json = r#"{"llm_name":"a","metric":"ttft","values":[1],"timestamp":"2026-01-01T00:00:00Z"}"#;
        let named = |namespace, key, index| with_derived_id(namespace, key, index, batch(json)).id();
        let first = named("caller", "key", 0);
        assert_eq!(named("caller", "key", 0), first, "a retry");
        for other in [
            named("other", "key", 0),
            named("caller", "yek", 0),
            named("caller", "key", 1),
            batch(json).id(),
        ] {
            assert_ne!(other, first);
        }
        let with_id = json.replacen('{', r#"{"id":"00000000-0000-7000-8000-000000000001","#, 1);
        assert_eq!(
            with_derived_id("", "key", 0, batch(&with_id)).id(),
            batch(&with_id).id()
        );
    }
}
