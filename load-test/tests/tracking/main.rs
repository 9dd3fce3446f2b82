//! Logging to MLflow's own server, and reading back what it has. `make tracking-contract` starts one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeMap, thread};

use load_test::tracking::{Artifact, ArtifactUpload, LoggedRun, TrackedRun, TrackingError, TrackingServer};
use serde_json::{Value, json};

#[expect(
    clippy::disallowed_methods,
    reason = "where the server is, is told by who started it"
)]
fn address() -> String {
    std::env::var("MLFLOW_TRACKING_URI")
        .expect("MLFLOW_TRACKING_URI names the server: make tracking-contract")
}

fn server() -> TrackingServer {
    TrackingServer::from_vars(|name| (name == "MLFLOW_TRACKING_URI").then(address)).unwrap()
}

/// More of everything than one request may have, with names and values that MLflow would refuse.
fn tracked(experiment: &str) -> TrackedRun {
    let mut params: BTreeMap<_, _> = (0..150).map(|n| (format!("asked.{n}"), n.to_string())).collect();
    params.insert("asked.empty".to_owned(), String::new());
    params.insert("asked.long".to_owned(), "\u{e9}".repeat(7000));
    params.insert("metadata.what%about/this".to_owned(), "\u{1f642}".to_owned());
    params.insert("metadata.what_about_this".to_owned(), "another".to_owned());
    let mut metrics: BTreeMap<_, _> = (0..1200)
        .map(|n| (format!("figure.{n}"), f64::from(n) / 7.0))
        .collect();
    metrics.insert("ttft_s.ci95_p50.low".to_owned(), 1e-9);
    metrics.insert("k".repeat(300), -1.5);
    TrackedRun {
        experiment: experiment.to_owned(),
        run_name: Some("a run: 1/2".to_owned()),
        tags: BTreeMap::from([("mlflow.note.content".to_owned(), "n".repeat(9000))]),
        params,
        metrics,
        started_at: "2026-11-22T12:00:00Z".parse().unwrap(),
        ended_at: "2026-11-22T12:01:30Z".parse().unwrap(),
        ok: true,
    }
}

fn report() -> Vec<Artifact> {
    ["report.json", "report.html"]
        .map(|name| Artifact {
            name: name.to_owned(),
            content: format!("content of {name}").into_bytes(),
        })
        .into()
}

fn get(path: &str, query: &[(&str, &str)]) -> String {
    let request = ureq::get(format!("{}/{path}", address())).query_pairs(query.iter().copied());
    request.call().unwrap().into_body().read_to_string().unwrap()
}

fn run(logged: &LoggedRun) -> Value {
    let run = get("api/2.0/mlflow/runs/get", &[("run_id", &logged.run_id)]);
    serde_json::from_str::<Value>(&run).unwrap()["run"].take()
}

fn by_name<'a>(data: &'a Value, kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let entries = data[kind].as_array().unwrap();
    entries
        .iter()
        .map(|entry| (entry["key"].as_str().unwrap(), &entry["value"]))
        .collect()
}

#[test]
#[ignore = "needs an MLflow server: make tracking-contract"]
fn mlflow_has_what_was_logged() {
    let tracked = tracked("what was logged");
    let logged = server().log(&tracked, &report()).unwrap();
    let run = run(&logged);
    let info = &run["info"];
    assert_eq!(info["status"], "FINISHED");
    assert_eq!(info["run_name"], "a run: 1/2");
    assert_eq!(info["start_time"], 1_795_348_800_000_i64);
    assert_eq!(info["end_time"], 1_795_348_890_000_i64);

    let params = by_name(&run["data"], "params");
    assert_eq!(params.len(), tracked.params.len());
    assert_eq!(params["asked.149"], "149");
    assert_eq!(params["asked.empty"], "");
    assert_eq!(params["asked.long"].as_str().unwrap().chars().count(), 6000);
    assert_eq!(params["metadata.what_about_this"], "\u{1f642}");
    assert_eq!(params["metadata.what_about_this_2"], "another");

    let metrics = by_name(&run["data"], "metrics");
    assert_eq!(metrics.len(), tracked.metrics.len());
    for (name, value) in &tracked.metrics {
        let name: String = name.chars().take(250).collect();
        assert_eq!(metrics[name.as_str()].as_f64(), Some(*value), "{name}");
    }
    let tags = by_name(&run["data"], "tags");
    assert_eq!(
        tags["mlflow.note.content"].as_str().unwrap().chars().count(),
        5000
    );

    assert_eq!(logged.artifacts, ArtifactUpload::All);
    let directory = format!("{}/{}/artifacts", logged.experiment_id, logged.run_id);
    for name in ["report.json", "report.html"] {
        let path = format!("api/2.0/mlflow-artifacts/artifacts/{directory}/{name}");
        assert_eq!(get(&path, &[]), format!("content of {name}"));
    }
}

#[test]
#[ignore = "needs an MLflow server: make tracking-contract"]
fn runs_of_one_name_share_an_experiment() {
    let first = server().log(&tracked("shared"), &[]).unwrap();
    let failed = TrackedRun {
        ok: false,
        run_name: None,
        ..tracked("shared")
    };
    let second = server().log(&failed, &[]).unwrap();
    assert_eq!(first.experiment_id, second.experiment_id);
    assert_ne!(first.run_id, second.run_id);
    let run = run(&second);
    assert_eq!(run["info"]["status"], "FAILED");
    assert!(
        !run["info"]["run_name"].as_str().unwrap().is_empty(),
        "the server chooses one"
    );
}

#[test]
#[ignore = "needs an MLflow server: make tracking-contract"]
fn runs_that_start_at_once_share_a_new_experiment() {
    let tracked = tracked("at once");
    let server = server();
    let logged: Vec<LoggedRun> = thread::scope(|scope| {
        let runs = [(); 4].map(|()| scope.spawn(|| server.log(&tracked, &[])));
        runs.map(|run| run.join().unwrap().unwrap()).into()
    });
    assert!(
        logged
            .iter()
            .all(|run| run.experiment_id == logged[0].experiment_id),
        "{logged:?}"
    );
}

#[test]
#[ignore = "needs an MLflow server: make tracking-contract"]
fn a_deleted_experiment_is_told() {
    let logged = server().log(&tracked("to be deleted"), &[]).unwrap();
    let body = json!({ "experiment_id": logged.experiment_id }).to_string();
    let delete = format!("{}/api/2.0/mlflow/experiments/delete", address());
    ureq::post(delete)
        .content_type("application/json")
        .send(body)
        .unwrap();
    let error = server().log(&tracked("to be deleted"), &[]).unwrap_err();
    assert!(
        matches!(&error, TrackingError::Deleted { id, .. } if *id == logged.experiment_id),
        "{error}"
    );
}
