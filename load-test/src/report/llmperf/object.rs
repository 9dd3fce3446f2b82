//! A JSON object with its keys in the order in which they were set, like a Python dictionary.

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

/// A JSON object with its keys in the order in which they were first set.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Object(Vec<(String, Value)>);

impl Object {
    /// Sets a key; an existing key keeps its position.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Sets `{prefix}_{key}` for every key, recursively for objects; an empty object adds nothing.
    pub(super) fn set_flattened(&mut self, prefix: &str, values: &Map<String, Value>) {
        for (key, value) in values {
            let key = format!("{prefix}_{key}");
            match value {
                Value::Object(inner) => self.set_flattened(&key, inner),
                value => self.set(&key, value.clone()),
            }
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
