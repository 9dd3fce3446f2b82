//! What is logged of a run.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{report::Report, verdict::Verdict};

/// The parts of a report that say what was asked, and by whom. All else that is a number is a figure.
const ASKED: [&str; 4] = ["schema_version", "model", "workload", "client"];

/// A run as MLflow knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedRun {
    /// The experiment that it belongs to.
    pub experiment: String,
    /// Its name there; `None` lets the server choose one.
    pub run_name: Option<String>,
    /// What it can be found by beside its parameters.
    pub tags: BTreeMap<String, String>,
    /// What was asked.
    pub params: BTreeMap<String, String>,
    /// What came out, in the units that the names say.
    pub metrics: BTreeMap<String, f64>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was over.
    pub ended_at: DateTime<Utc>,
    /// Whether it counts: `FINISHED`, else `FAILED`.
    pub ok: bool,
}

impl TrackedRun {
    /// The run that `report` is of, and that ended at `ended_at`.
    ///
    /// UniqueNames are paths in `report.json`: `workload.load.concurrency` is a parameter, `ttft_s.p50` a metric. What is null
    /// there is missing here. The bounds of an interval are `ttft_s.ci95_p50.low` and `.high`.
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
        for (name, value) in object(serde_json::to_value(report)?) {
            if ASKED.contains(&name.as_str()) {
                parameters(name, value, &mut params);
            } else {
                figures(name, value, &mut metrics);
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

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn parameters(name: String, value: Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (field, value) in fields {
                parameters(format!("{name}.{field}"), value, into);
            }
        }
        Value::String(text) => {
            into.insert(name, text);
        }
        other => {
            into.insert(name, other.to_string());
        }
    }
}

fn figures(name: String, value: Value, into: &mut BTreeMap<String, f64>) {
    match value {
        Value::Number(number) => into.extend(number.as_f64().map(|figure| (name, figure))),
        Value::Object(fields) => {
            for (field, value) in fields {
                figures(format!("{name}.{field}"), value, into);
            }
        }
        Value::Array(bounds) => {
            if let [Value::Number(low), Value::Number(high)] = bounds.as_slice() {
                into.extend(low.as_f64().map(|low| (format!("{name}.low"), low)));
                into.extend(high.as_f64().map(|high| (format!("{name}.high"), high)));
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
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
        let mut metrics = BTreeMap::new();
        figures(
            "errors".to_owned(),
            serde_json::json!([{ "count": 1 }, { "count": 2 }]),
            &mut metrics,
        );
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
