//! Everything that decided the course of the run.

use std::borrow::Cow;

use maud::Markup;
use serde_json::Value;

use super::tables::pairs;
use crate::report::Report;

/// More are not shown; `report.json` has all.
const MOST_PARAMETERS: usize = 300;

pub(super) fn table(report: &Report) -> Markup {
    let mut rows = Vec::new();
    // The section is what `report.json` is made of: it always becomes JSON.
    if let Ok(parameters) = serde_json::to_value(&report.workload) {
        flatten(String::new(), &parameters, &mut rows);
    }
    let caption = match rows.len().saturating_sub(MOST_PARAMETERS) {
        0 => "As in report.json.".to_owned(),
        more => format!("The first {MOST_PARAMETERS}; {more} more are in report.json."),
    };
    rows.truncate(MOST_PARAMETERS);
    pairs(&caption, &rows)
}

/// `{"load": {"rate": 5}}` becomes `load.rate` and `5`.
fn flatten(path: String, value: &Value, rows: &mut Vec<(Cow<'static, str>, String)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(format!("{path}{dot}{name}"), value, rows);
            }
        }
        Value::String(text) => rows.push((path.into(), text.clone())),
        Value::Null => rows.push((path.into(), "–".to_owned())),
        other => rows.push((path.into(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_parameters_have_paths() {
        let mut rows = Vec::new();
        let value = serde_json::json!({ "a": { "b": 1, "c": [1, 2] }, "d": null, "e": {}, "f": "x" });
        flatten(String::new(), &value, &mut rows);
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(rows, ["a.b=1", "a.c=[1,2]", "d=–", "e={}", "f=x"]);
    }
}
