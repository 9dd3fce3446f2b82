//! The parameters, metrics and tags of a run for MLflow.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{json_paths::flatten, report::Report, verdict::Verdict};

/// The sections of a report that are logged as parameters. Numbers in other sections are logged as metrics.
const PARAMETER_SECTIONS: [&str; 4] = ["schema_version", "model", "workload", "client"];

/// A run in MLflow's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedRun {
    /// The experiment that it belongs to.
    pub experiment: String,
    /// Its name there; `None` lets the server choose one.
    pub run_name: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its parameters.
    pub params: BTreeMap<String, String>,
    /// Its metrics, in the units that the names say.
    pub metrics: BTreeMap<String, f64>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// Whether it is `FINISHED`; otherwise it is `FAILED`.
    pub ok: bool,
}

impl TrackedRun {
    /// The run of `report`, which ended at `ended_at`.
    ///
    /// Names are paths in `report.json`: `workload.load.concurrency` is a parameter, `ttft_s.p50` a metric. Values
    /// that are null are left out. The bounds of an interval are `ttft_s.ci95_p50.low` and `.high`.
    ///
    /// A run is `FINISHED` where its figures are valid and it was not interrupted.
    ///
    /// # Errors
    ///
    /// Where the report cannot be expressed in JSON.
    pub fn of(
        report: &Report,
        experiment: String,
        run_name: Option<String>,
        ended_at: DateTime<Utc>,
    ) -> Result<Self, serde_json::Error> {
        let mut params = BTreeMap::new();
        let mut metrics = BTreeMap::new();
        for (name, value) in flatten(serde_json::to_value(report)?) {
            let section = name.split('.').next().unwrap_or_default();
            if PARAMETER_SECTIONS.contains(&section) {
                params.extend(parameter(value).map(|text| (name, text)));
            } else {
                metrics.extend(figures(name, &value));
            }
        }
        Ok(Self {
            experiment,
            run_name,
            tags: tags(report),
            params,
            metrics,
            started_at: report.started_at,
            ended_at,
            ok: report.client_error.verdict == Verdict::Valid && !report.interrupted,
        })
    }
}

fn tags(report: &Report) -> BTreeMap<String, String> {
    let verdict = match report.client_error.verdict {
        Verdict::Valid => "valid",
        Verdict::Invalid => "invalid",
    };
    let notes: Vec<&str> = report
        .client_error
        .reasons
        .iter()
        .chain(&report.problems)
        .map(String::as_str)
        .collect();
    let mut tags = BTreeMap::from(
        [
            // MLflow shows these two as the run's source.
            ("mlflow.source.name", "llm-bench load-test"),
            ("mlflow.source.type", "LOCAL"),
            ("llm_bench.run_id", &report.run_id),
            ("llm_bench.verdict", verdict),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    if !notes.is_empty() {
        // MLflow shows it as the run's description.
        tags.insert("mlflow.note.content".to_owned(), notes.join("\n\n"));
    }
    tags
}

fn parameter(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Object(empty) if empty.is_empty() => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// A number is one figure, an interval two; other values are none.
fn figures(name: String, value: &Value) -> Vec<(String, f64)> {
    let figure = |name: String, value: &Value| Some((name, value.as_f64()?));
    match value.as_array().map(Vec::as_slice) {
        None => figure(name, value).into_iter().collect(),
        Some([low, high]) if low.is_number() && high.is_number() => {
            let bounds = [(".low", low), (".high", high)];
            let bounds = bounds.into_iter();
            bounds
                .filter_map(|(suffix, bound)| figure(format!("{name}{suffix}"), bound))
                .collect()
        }
        Some(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{
            ReportInputs, build,
            fixtures::{header, measurements, record, recorded, refused},
        },
        verdict::ErrorLimits,
    };

    fn report() -> Report {
        let records: Vec<_> = (0..20).map(record).chain([refused(20, 503)]).collect();
        build(ReportInputs {
            header: header(),
            measurements: &measurements(&records),
            recorded: &recorded(records),
            limits: ErrorLimits::default(),
        })
    }

    fn tracked(report: &Report) -> TrackedRun {
        let ended = "2026-11-22T12:01:30Z".parse().unwrap();
        TrackedRun::of(report, "latency".to_owned(), Some("first".to_owned()), ended).unwrap()
    }

    #[test]
    fn what_was_asked_are_parameters_and_what_came_out_are_metrics() {
        let report = report();
        let tracked = tracked(&report);
        for (name, value) in [
            ("model", "meta-llama/Llama-3.1-8B"),
            ("workload.api", "openai-chat"),
            ("workload.load.concurrency", "10"),
            ("workload.sampling.temperature", "0.5"),
            ("workload.metadata.team", "blue"),
            ("client.cores", "1"),
        ] {
            assert_eq!(
                tracked.params.get(name).map(String::as_str),
                Some(value),
                "{name}"
            );
        }
        for (name, value) in [
            ("requests.scheduled", Some(21.0)),
            ("requests.http_error", Some(1.0)),
            ("ttft_s.p50", report.ttft_s.p50),
            ("ttft_s.ci95_p50.low", report.ttft_s.ci95_p50.map(|(low, _)| low)),
            (
                "ttft_s.ci95_p50.high",
                report.ttft_s.ci95_p50.map(|(_, high)| high),
            ),
            ("requests_per_s", report.requests_per_s),
        ] {
            assert!(value.is_some(), "{name}");
            assert_eq!(tracked.metrics.get(name).copied(), value, "{name}");
        }
        assert_eq!(tracked.tags["llm_bench.run_id"], report.run_id);
    }

    #[test]
    fn what_has_no_basis_is_missing() {
        let tracked = tracked(&report());
        assert!(!tracked.metrics.contains_key("ttft_s.p99"));
        assert!(!tracked.params.contains_key("workload.slo.ttft_s"));
    }

    #[test]
    fn two_kinds_of_errors_are_no_interval() {
        let errors = serde_json::json!([{ "count": 1 }, { "count": 2 }]);
        let metrics = figures("errors".to_owned(), &errors);
        assert!(metrics.is_empty(), "{metrics:?}");
    }

    #[test]
    fn only_a_valid_run_that_came_to_its_end_is_finished() {
        let mut report = report();
        report.client_error.verdict = Verdict::Valid;
        assert!(tracked(&report).ok);
        report.interrupted = true;
        assert!(!tracked(&report).ok);
        report.interrupted = false;
        report.client_error.verdict = Verdict::Invalid;
        report.client_error.reasons = vec!["late".to_owned()];
        let invalid = tracked(&report);
        assert!(!invalid.ok);
        assert_eq!(invalid.tags["llm_bench.verdict"], "invalid");
        assert_eq!(invalid.tags["mlflow.note.content"], "late");
    }
}
