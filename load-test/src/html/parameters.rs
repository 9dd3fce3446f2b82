//! Everything that decided the course of the run.

use maud::Markup;
use serde_json::Value;

use super::tables::pairs;
use crate::{json_paths::flatten, report::Report};

/// At most this many parameters are shown; `report.json` has all.
const MOST_PARAMETERS: usize = 300;

pub(super) fn table(report: &Report) -> Markup {
    // The section is part of `report.json`: it always becomes JSON.
    let parameters = serde_json::to_value(&report.workload).map(flatten);
    let mut rows: Vec<_> = parameters
        .unwrap_or_default()
        .into_iter()
        .map(|(path, value)| (path, shown(value)))
        .collect();
    let caption = match rows.len().saturating_sub(MOST_PARAMETERS) {
        0 => "As in report.json.".to_owned(),
        more => format!("The first {MOST_PARAMETERS}; {more} more are in report.json."),
    };
    rows.truncate(MOST_PARAMETERS);
    pairs(&caption, &rows)
}

fn shown(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_parameters_have_paths() {
        let value = serde_json::json!({ "a": { "b": 1, "c": [1, 2] }, "d": null, "e": {}, "f": "x" });
        let rows: Vec<_> = flatten(value)
            .into_iter()
            .map(|(name, value)| format!("{name}={}", shown(value)))
            .collect();
        assert_eq!(rows, ["a.b=1", "a.c=[1,2]", "d=–", "e={}", "f=x"]);
    }
}
