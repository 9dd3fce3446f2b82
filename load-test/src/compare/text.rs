//! The comparison as text.

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

use super::{Comparison, Finding, MetricComparison};
use crate::report::format::{duration, number};

pub(super) fn text(comparison: &Comparison) -> String {
    let mut lines: Vec<String> = comparison
        .warnings
        .iter()
        .map(|warning| format!("warning: {warning}"))
        .collect();
    lines.push(format!("A  {} ({})", comparison.a.model, comparison.a.run_id));
    lines.push(format!("B  {} ({})", comparison.b.model, comparison.b.run_id));
    lines.push(table(&comparison.metrics).to_string());
    lines.push(conclusion(comparison));
    lines.join("\n")
}

fn table(metrics: &[MetricComparison]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(["", "A", "B", "B − A", "p", "B is"]);
    for column in table.column_iter_mut().skip(1).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.add_rows(metrics.iter().map(row));
    table
}

fn row(metric: &MetricComparison) -> [String; 6] {
    let absent = || "–".to_owned();
    let value = |value: Option<f64>| value.map_or_else(absent, |value| show(&metric.metric, value));
    [
        metric.metric.clone(),
        value(metric.a),
        value(metric.b),
        metric
            .relative_difference
            .map_or_else(absent, |relative| format!("{:+.1} %", relative * 100.0)),
        metric.p_value.map_or_else(absent, |p| {
            if p < 0.001 {
                "< 0.001".to_owned()
            } else {
                format!("{p:.3}")
            }
        }),
        words(metric.finding).to_owned(),
    ]
}

fn show(metric: &str, value: f64) -> String {
    if metric.split(' ').next().is_some_and(|name| name.ends_with("_s")) {
        duration(value)
    } else {
        number(value)
    }
}

fn words(finding: Finding) -> &'static str {
    match finding {
        Finding::Better => "better",
        Finding::Worse => "WORSE",
        Finding::BelowThreshold => "different, below the threshold",
        Finding::NoDifferenceShown => "not shown to differ",
        Finding::NoBasis => "not judged: too few values",
    }
}

fn conclusion(comparison: &Comparison) -> String {
    let names = |finding: Finding| {
        let found = comparison
            .metrics
            .iter()
            .filter(|metric| metric.finding == finding);
        found
            .map(|metric| metric.metric.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (better, worse) = (names(Finding::Better), names(Finding::Worse));
    let said: Vec<_> = [("better", better), ("worse", worse)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(word, names)| format!("{word} in {names}"))
        .collect();
    let confidence = format!(
        "95 % confidence over all figures, threshold {} %",
        number(comparison.threshold * 100.0)
    );
    if said.is_empty() {
        format!("No difference shown between A and B ({confidence}).")
    } else {
        format!("B is {} ({confidence}).", said.join("; "))
    }
}
