//! Parameters, metrics and tags in requests of a size that MLflow accepts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{tracked_run::TrackedRun, unique_names::UniqueNames};

/// Most parameters of one request.
const MOST_PARAMS: usize = 100;
/// Most metrics of one request; also the most metrics, parameters and tags together.
const MOST_METRICS: usize = 1000;
/// The longest value of a parameter, characters (6 000 since MLflow 2.8).
const LONGEST_PARAM: usize = 6000;
/// The longest value of a tag, characters (5 000 before MLflow 2.19, 8 000 since).
const LONGEST_TAG: usize = 5000;

/// The body of `runs/log-batch`, beside the run's id.
#[derive(Debug, PartialEq, Default, Serialize)]
pub(super) struct LogBatch {
    pub(super) params: Vec<KeyValue>,
    pub(super) metrics: Vec<Metric>,
}

/// A parameter or a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct KeyValue {
    pub(super) key: String,
    pub(super) value: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Metric {
    pub(super) key: String,
    pub(super) value: f64,
    /// Milliseconds since 1970.
    pub(super) timestamp: i64,
    pub(super) step: i64,
}

/// Parameters first, so that they are logged even if the rest fails.
pub(super) fn batches(tracked: &TrackedRun) -> Vec<LogBatch> {
    let params = pairs(&tracked.params, LONGEST_PARAM);
    let params = params.chunks(MOST_PARAMS).map(|params| LogBatch {
        params: params.to_vec(),
        ..LogBatch::default()
    });
    let metrics = metrics(tracked);
    let metrics = metrics.chunks(MOST_METRICS).map(|metrics| LogBatch {
        metrics: metrics.to_vec(),
        ..LogBatch::default()
    });
    params.chain(metrics).collect()
}

/// The tags, including the run's name: servers before MLflow 1.30 read it from the tag only.
pub(super) fn tags(tracked: &TrackedRun) -> Vec<KeyValue> {
    let mut tags = tracked.tags.clone();
    let name = tracked.run_name.clone();
    tags.extend(name.map(|name| ("mlflow.runName".to_owned(), name)));
    pairs(&tags, LONGEST_TAG)
}

fn pairs(pairs: &BTreeMap<String, String>, longest: usize) -> Vec<KeyValue> {
    let mut names = UniqueNames::default();
    pairs
        .iter()
        .map(|(name, value)| KeyValue {
            key: names.allowed(name),
            value: cut(value, longest),
        })
        .collect()
}

/// Infinity and NaN are left out, because JSON does not have them.
fn metrics(tracked: &TrackedRun) -> Vec<Metric> {
    let mut names = UniqueNames::default();
    tracked
        .metrics
        .iter()
        .filter(|(_, value)| value.is_finite())
        .map(|(name, value)| Metric {
            key: names.allowed(name),
            value: *value,
            timestamp: tracked.ended_at.timestamp_millis(),
            step: 0,
        })
        .collect()
}

/// Truncates a text; the last character of a truncated text is an ellipsis.
fn cut(value: &str, longest: usize) -> String {
    if value.chars().count() <= longest {
        return value.to_owned();
    }
    value.chars().take(longest - 1).chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(params: usize, metrics: usize) -> TrackedRun {
        TrackedRun {
            experiment: "latency".to_owned(),
            run_name: None,
            tags: BTreeMap::new(),
            params: (0..params).map(|n| (format!("p{n:04}"), n.to_string())).collect(),
            metrics: (0..metrics).map(|n| (format!("m{n:04}"), n as f64)).collect(),
            started_at: "2026-11-22T12:00:00Z".parse().unwrap(),
            ended_at: "2026-11-22T12:01:30Z".parse().unwrap(),
            ok: true,
        }
    }

    #[test]
    fn batches_keep_the_limits_and_lose_nothing() {
        for (params, metrics, expected) in [
            (0, 0, vec![]),
            (100, 1000, vec![(100, 0), (0, 1000)]),
            (101, 1001, vec![(100, 0), (1, 0), (0, 1000), (0, 1)]),
        ] {
            let tracked = tracked(params, metrics);
            let batches = batches(&tracked);
            let sizes: Vec<_> = batches
                .iter()
                .map(|batch| (batch.params.len(), batch.metrics.len()))
                .collect();
            assert_eq!(sizes, expected);
            let logged: BTreeMap<_, _> = batches
                .iter()
                .flat_map(|batch| &batch.params)
                .map(|pair| (pair.key.clone(), pair.value.clone()))
                .collect();
            assert_eq!(logged, tracked.params);
        }
    }

    #[test]
    fn what_is_no_number_is_no_figure() {
        let mut tracked = tracked(0, 1);
        tracked.metrics.insert("nan".to_owned(), f64::NAN);
        let batches = batches(&tracked);
        let expected = Metric {
            key: "m0000".to_owned(),
            value: 0.0,
            timestamp: 1_795_348_890_000,
            step: 0,
        };
        assert_eq!(batches[0].metrics, [expected]);
    }

    #[test]
    fn a_long_value_is_cut_and_says_so() {
        let exact = "\u{e9}".repeat(6000);
        assert_eq!(cut(&exact, LONGEST_PARAM), exact);
        let cut = cut(&format!("{exact}x"), LONGEST_PARAM);
        assert_eq!(cut.chars().count(), 6000);
        assert!(cut.ends_with("\u{e9}\u{2026}"));
    }
}
