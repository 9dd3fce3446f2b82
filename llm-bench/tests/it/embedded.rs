use std::{collections::BTreeMap, process::Command, time::Duration};

use nix::sys::signal::Signal;
use test_patience::until;

use crate::{
    oracle::exact_mean,
    process::{Process, program},
    rankings::Api,
};

fn up(data_dir: &std::path::Path, settings: &[(&str, &str)]) -> Command {
    let mut command = program("llm-bench");
    command
        .args(["up", "--port", "0", "--data-dir"])
        .arg(data_dir)
        .envs(settings.iter().copied());
    command
}

#[tokio::test]
async fn four_llms_are_ranked_by_four_metrics_in_the_right_direction() {
    let directory = tempfile::tempdir().unwrap();
    let (process, url) = Process::up(up(directory.path(), &[("RANDOM_SEED", "42")]));
    let api = Api::open(&url);
    until("the first tick is ranked", async || {
        api.values("").await == 16_000
    })
    .await;

    let rankings = api.rankings("").await;
    assert_eq!(
        rankings.keys().collect::<Vec<_>>(),
        ["e2e_latency", "rps", "tps", "ttft"]
    );
    for (metric, rows) in &rankings {
        assert_eq!(rows.len(), 4, "{metric}");
        let ascending = ["ttft", "e2e_latency"].contains(&metric.as_str());
        assert!(
            rows.windows(2).all(|pair| if ascending {
                pair[0].mean <= pair[1].mean
            } else {
                pair[0].mean >= pair[1].mean
            }),
            "{metric}: {rows:?}"
        );
        assert_eq!(rows[0].rank, 1);
    }
    let (_, answer) = api.get("/api/v1/rankings/TTFT").await;
    for field in [
        "n",
        "rank",
        "mean",
        "stddev",
        "p50",
        "p90",
        "p95",
        "p99",
        "ci95",
        "updated_at",
    ] {
        assert!(!answer["data"][0][field].is_null(), "{field} in {answer}");
    }
    process.stop();
}

#[tokio::test]
async fn ctrl_c_ends_with_0_and_a_restart_goes_on_with_the_same_counts() {
    let directory = tempfile::tempdir().unwrap();
    for starts in 1..=3_u64 {
        let (mut process, url) = Process::up(up(directory.path(), &[]));
        let api = Api::open(&url);
        until("this start's tick is ranked", async || {
            api.values("").await == 16_000 * starts
        })
        .await;
        process.signal(Signal::SIGINT);
        assert_eq!(process.ended().code(), Some(0));
    }
}

#[tokio::test]
async fn kill_9_at_any_moment_loses_nothing_and_counts_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let busy = [("SIMULATION_INTERVAL", "0.005"), ("NUM_DATA_POINTS", "20")];
    // Moments that fall before and into the first ticks.
    for milliseconds in [1, 5, 12, 25, 40, 60, 90, 130] {
        let (process, _) = Process::up(up(directory.path(), &busy));
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        process.crash();
    }
    // And one after them, however slow this machine is.
    let (process, url) = Process::up(up(directory.path(), &busy));
    let api = Api::open(&url);
    until("more than the first tick is ranked", async || {
        api.values("").await > 20 * 16
    })
    .await;
    process.crash();

    let (process, url) = {
        let mut command = up(directory.path(), &[]);
        command.arg("--no-simulation");
        Process::up(command)
    };
    let api = Api::open(&url);
    let batches = api.batches().await;
    assert!(batches.len() > 16, "{} batches", batches.len());
    until("every stored batch is counted", async || {
        api.values("").await == 20 * batches.len() as u64
    })
    .await;

    let mut stored: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    for batch in &batches {
        let text = |field: &str| batch[field].as_str().unwrap().to_owned();
        let values = batch["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| value.as_f64().unwrap());
        stored
            .entry((text("metric"), text("llm_name")))
            .or_default()
            .extend(values);
    }
    for (metric, rows) in api.rankings("").await {
        for row in rows {
            let values = &stored[&(metric.clone(), row.llm.clone())];
            assert_eq!(
                (row.n, row.mean),
                (values.len() as u64, exact_mean(values)),
                "{metric} {}",
                row.llm
            );
        }
    }
    process.stop();
}

#[tokio::test]
async fn a_key_is_made_at_the_first_start_and_writes_what_the_simulation_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let (process, url) = Process::up({
        let mut command = up(directory.path(), &[]);
        command.arg("--no-simulation");
        command
    });
    let made = crate::process::run({
        let mut command = program("llm-bench");
        command
            .args(["keys", "create", "test", "--scope", "write"])
            .env("DATA_DIR", directory.path());
        command
    });
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(key.starts_with("llmb_"), "{key}");

    let body = r#"{"llm_name": "Mine", "metric": "ttft", "values": [0.5, 0.25], "timestamp": "2026-01-01T00:00:00Z"}"#;
    let post = |key: Option<String>| {
        let mut request = reqwest::Client::new()
            .post(format!("{url}/api/v1/batches"))
            .body(body);
        request = request.header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(post(None).await, 401);
    // Running services learn of a new key within 30 seconds.
    until("the key is accepted", async || {
        post(Some(key.clone())).await == 202
    })
    .await;
    assert_eq!(post(Some(key)).await, 202, "a repetition is no error");
    let api = Api::open(&url);
    until("it is ranked once", async || {
        api.values("source=imported").await == 2
    })
    .await;
    assert_eq!(api.values("source=simulated").await, 0);
    process.stop();
}
