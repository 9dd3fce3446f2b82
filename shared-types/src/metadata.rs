use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Invalid;

/// What a producer says about how a batch came to be, such as a load test's workload: a JSON object of at most
/// [`Metadata::MAX_BYTES`], written compactly. It describes; nothing is computed from it, and a batch's identity does not
/// depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// The longest metadata, in bytes of compact JSON.
    pub const MAX_BYTES: usize = 4 * 1024;
    /// The deepest nesting.
    const MAX_DEPTH: usize = 8;

    /// The metadata of these fields.
    ///
    /// # Errors
    /// They are longer or deeper than the limits, or hold a NUL character, which PostgreSQL cannot store.
    pub fn new(fields: Map<String, Value>) -> Result<Self, Invalid> {
        let value = Value::Object(fields);
        if depth(&value) > Self::MAX_DEPTH {
            let expected = format!("at most {} levels", Self::MAX_DEPTH);
            return Err(Invalid::new("metadata", "a deeper object", expected));
        }
        if has_nul(&value) {
            return Err(Invalid::new("metadata", "a NUL character", "text without it"));
        }
        let bytes = value.to_string().len();
        if bytes > Self::MAX_BYTES {
            let expected = format!("at most {} bytes of JSON", Self::MAX_BYTES);
            return Err(Invalid::new("metadata", format_args!("{bytes} bytes"), expected));
        }
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Ok(Self::default()),
        }
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl TryFrom<Map<String, Value>> for Metadata {
    type Error = Invalid;

    fn try_from(fields: Map<String, Value>) -> Result<Self, Invalid> {
        Self::new(fields)
    }
}

impl From<Metadata> for Map<String, Value> {
    fn from(metadata: Metadata) -> Self {
        metadata.0
    }
}

/// Levels of nesting; JSON's own parser has refused what is too deep to recurse into.
fn depth(value: &Value) -> usize {
    1 + match value {
        Value::Object(fields) => fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Array(items) => items.iter().any(has_nul),
        Value::String(text) => text.contains('\0'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Metadata, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn an_object_is_kept_as_it_is() {
        let value =
            json!({"workload": {"kind": "sonnets", "mean": 550.5}, "gpu": "H100", "n": [1, null, true]});
        let metadata = read(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&metadata).unwrap(), value);
        assert!(!metadata.is_empty() && Metadata::default().is_empty());
    }

    #[test]
    fn what_cannot_be_stored_is_refused_by_name() {
        let mut deep = json!(1);
        for _ in 0..20 {
            deep = json!({ "a": deep });
        }
        for (value, found) in [
            (json!({"a": "x".repeat(Metadata::MAX_BYTES)}), "bytes"),
            (json!({"a": ["b\0c"]}), "NUL"),
            (json!({"a\0": 1}), "NUL"),
            (deep, "deeper"),
            (json!("text"), "map"),
            (json!([1]), "map"),
        ] {
            let error = read(value).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
    }
}
