//! JSON values by their paths, such as `load.rate`.

use serde_json::Value;

/// All values that are no objects, with their paths; `{"load": {"rate": 5}}` becomes `load.rate` and `5`. Empty objects are
/// values of their own.
pub(crate) fn flatten(value: Value) -> Vec<(String, Value)> {
    let mut flat = Vec::new();
    add(String::new(), value, &mut flat);
    flat
}

fn add(path: String, value: Value, flat: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                add(format!("{path}{dot}{name}"), value, flat);
            }
        }
        value => flat.push((path, value)),
    }
}
