//! What was measured, made of `requests.jsonl` by the definitions of metrics, and what the pipeline has of it.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;
use test_patience::until;

use super::json_lines;
use crate::{
    oracle::exact_mean,
    rankings::{Api, Row},
};

/// Sorted values by metric.
pub(super) type Measured = BTreeMap<String, Vec<f64>>;

pub(super) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The values of the requests in `requests.jsonl` that count; `rps` is not among them.
pub(super) fn measured(results: &Path) -> Measured {
    let lines = json_lines(&results.join("requests.jsonl"));
    let plan = super::json(&results.join("run.json"))["plan"].clone();
    let warmup = plan["warmup_requests"].as_u64().unwrap();
    let ramp_s = plan["load"]["ramp_up_s"].as_f64().unwrap_or(0.0);
    let after_warmup = |line: &&Value| line["index"].as_u64().unwrap() >= warmup && line["class"] == "ok";
    let answered: Vec<_> = lines.iter().filter(after_warmup).collect();
    let steady = |line: &&Value| line["sent_s"].as_f64().unwrap() >= ramp_s;
    let steady: Vec<_> = answered.iter().copied().filter(steady).collect();
    let counted = if steady.is_empty() { answered } else { steady };

    let mut measured = Measured::new();
    for line in counted {
        let values = values(line);
        for (metric, value) in values {
            measured.entry(metric.to_owned()).or_default().extend(value);
        }
    }
    measured.retain(|_, values| !values.is_empty());
    measured
        .into_iter()
        .map(|(metric, values)| (metric, sorted(values)))
        .collect()
}

fn values(line: &Value) -> [(&'static str, Option<f64>); 4] {
    let nanos = |field: &str| (line[field].as_f64().unwrap() * 1e9).round();
    let seconds = |from: &str, to: &str| {
        // Whole nanoseconds: the difference is exact, and as a Duration it is rounded once.
        let distance = format!("{}", nanos(to) - nanos(from)).parse().unwrap();
        std::time::Duration::from_nanos(distance).as_secs_f64()
    };
    let tokens = line["server_output_tokens"]
        .as_u64()
        .or(line["client_output_tokens"].as_u64());
    let tokens = tokens.map(|tokens| u32::try_from(tokens).unwrap());
    let e2e = seconds("sent_s", "last_content_s");
    let pace = tokens.filter(|tokens| *tokens > 1 && line["chunks"].as_u64() > Some(1));
    [
        ("ttft", Some(seconds("sent_s", "first_content_s"))),
        ("e2e_latency", Some(e2e)),
        ("tps", tokens.map(|tokens| f64::from(tokens) / e2e)),
        (
            "tpot",
            pace.map(|tokens| seconds("first_content_s", "last_content_s") / f64::from(tokens - 1)),
        ),
    ]
}

/// What the pipeline has of the run, `rps` aside; every batch says where it comes from.
pub(super) async fn stored(api: &Api, run_id: &str) -> Measured {
    let mut stored = Measured::new();
    for batch in api.batches().await {
        if batch["source"] != "measured" {
            continue;
        }
        assert_eq!(batch["run_id"], run_id, "{batch}");
        let metadata = &batch["metadata"];
        assert!(
            metadata["workload"]["kind"].is_string() && metadata["load"]["kind"].is_string(),
            "{batch}"
        );
        assert!(metadata["seed"].is_u64(), "{batch}");
        let values = batch["values"].as_array().unwrap().iter();
        let metric = batch["metric"].as_str().unwrap().to_owned();
        stored
            .entry(metric)
            .or_default()
            .extend(values.map(|value| value.as_f64().unwrap()));
    }
    stored.remove("rps");
    stored
        .into_iter()
        .map(|(metric, values)| (metric, sorted(values)))
        .collect()
}

/// Waits until as much is ranked as was measured, then holds rankings and stored arrays against `requests.jsonl`.
pub(super) async fn assert_published(api: &Api, results: &Path, left_out: &[&str]) {
    let mut measured = measured(results);
    measured.retain(|metric, _| !left_out.contains(&metric.as_str()));
    let run_id = super::json(&results.join("run.json"))["run_id"].clone();
    let run_id = run_id.as_str().unwrap();
    assert_eq!(stored(api, run_id).await, measured);

    until("what was measured is ranked", async || {
        let ranked = api.rankings("source=measured").await;
        let n = |metric: &String| ranked.get(metric).and_then(|rows| Some(rows.first()?.n));
        measured
            .iter()
            .all(|(metric, values)| n(metric) >= Some(values.len() as u64))
    })
    .await;
    let ranked = api.rankings("source=measured").await;
    for (metric, values) in &measured {
        let row: &Row = &ranked[metric][0];
        assert_eq!(
            (row.n, row.mean),
            (values.len() as u64, exact_mean(values)),
            "{metric}"
        );
    }
    for metric in left_out {
        let rows = ranked.get(*metric).map_or(0, Vec::len);
        assert_eq!(rows, 0, "{metric}");
    }
}
