//! `--publish`: embedded, to a running service, and by the servers of a deployment.

use std::{path::Path, process::Command};

use test_patience::until;

use super::{
    Bench, load_test,
    measured::{assert_published, measured},
    said,
};
use crate::{
    process::{Process, program, run},
    rankings::Api,
    real_servers::Deployment,
};

/// The model of all tests here.
const RUN: &str =
    "--model mine --max-num-completed-requests 40 --num-concurrent-requests 4 --warmup-requests 3";

/// A service on an embedded database that others have written to, or will.
pub(super) fn serving(data: &Path, simulation: bool) -> (Process, Api) {
    let mut command = program("llm-bench");
    command.args(["up", "--port", "0", "--data-dir"]).arg(data);
    if !simulation {
        command.arg("--no-simulation");
    }
    let (process, url) = Process::up(command);
    (process, Api::open(&url))
}

/// A key of the given scope, made before the service starts.
fn key(data: &Path, scope: &str) -> String {
    let mut command = program("llm-bench");
    command
        .args(["keys", "create", "test", "--scope", scope])
        .env("DATA_DIR", data);
    let made = run(command);
    assert!(made.status.success(), "{}", said(&made));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn done(command: Command) -> String {
    let done = run(command);
    let said = said(&done);
    assert!(done.status.success(), "{said}");
    said
}

#[tokio::test]
async fn embedded_the_ranking_is_what_was_measured() {
    let bench = Bench::quick();
    let mut command = bench.command(RUN);
    command.arg("--publish");
    let said = done(command);
    assert!(said.contains("llm-bench rankings --source measured"), "{said}");

    let mut rankings = program("llm-bench");
    rankings
        .args(["rankings", "tpot", "--source", "measured", "--format", "json"])
        .env("DATA_DIR", bench.data());
    let shown = done(rankings);
    assert!(
        shown.contains("mine"),
        "counted before the command ended: {shown}"
    );

    let (process, api) = serving(&bench.data(), false);
    assert_published(&api, &bench.results(), &[]).await;
    process.stop();
}

#[tokio::test]
async fn simulated_and_measured_llms_are_ranked_apart() {
    let bench = Bench::quick();
    let (process, api) = serving(&bench.data(), true);
    until("the simulation's first tick is ranked", async || {
        api.values("source=simulated").await == 16_000
    })
    .await;
    process.stop();
    let mut command = bench.command(RUN);
    command.arg("--publish");
    done(command);

    let (process, api) = serving(&bench.data(), false);
    assert_published(&api, &bench.results(), &[]).await;
    let llms = async |source: &str| {
        let rankings = api.rankings(&format!("source={source}")).await;
        let mut names: Vec<_> = rankings.into_values().flatten().map(|row| row.llm).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    assert_eq!(llms("measured").await, ["mine"]);
    let simulated = llms("simulated").await;
    assert!(
        simulated.len() == 4 && !simulated.contains(&"mine".to_owned()),
        "{simulated:?}"
    );
    assert_eq!(api.values("source=simulated").await, 16_000);
    process.stop();
}

#[tokio::test]
async fn a_service_takes_what_the_keys_scope_allows() {
    for (scope, left_out) in [("write", &["tpot"][..]), ("admin", &[])] {
        let bench = Bench::quick();
        let key = key(&bench.data(), scope);
        let (process, api) = serving(&bench.data(), false);
        let mut command = bench.command(RUN);
        command
            .args(["--publish", &api.url])
            .env("API_KEY", &key)
            // Whoever publishes over HTTP opens no database of its own.
            .env("DATA_DIR", "/nonexistent");
        let said = done(command);
        assert!(!said.contains(&key), "{said}");
        let warned = said.contains("tpot") && said.contains("not registered");
        assert_eq!(warned, !left_out.is_empty(), "{scope}: {said}");
        assert_published(&api, &bench.results(), left_out).await;
        process.stop();
    }
}

#[tokio::test]
async fn a_service_that_refuses_the_key_is_found_out_before_the_run() {
    let bench = Bench::quick();
    let (process, api) = serving(&bench.data(), false);
    let mut command = bench.command(RUN);
    command
        .args(["--publish", &api.url])
        .env("API_KEY", "a-key-that-nobody-made");
    let done = run(command);
    let said = said(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("401"), "{said}");
    assert_eq!(bench.mock.stats().requests, 0, "nobody was asked in vain");
    process.stop();
}

#[tokio::test]
async fn by_the_servers_of_a_deployment_its_services_count() {
    let deployment = Deployment::shared(&[("SIMULATION_INTERVAL", "3600"), ("NUM_DATA_POINTS", "10")]).await;
    deployment.ranked("source=simulated", 160).await;
    let bench = Bench::quick();
    let mut command = bench.command(RUN);
    command
        .arg("--publish")
        .env("DATABASE_URL", &deployment.database)
        .env("AMQP_URL", &deployment.amqp);
    done(command);
    assert_published(&deployment.api, &bench.results(), &[]).await;
    let in_postgres: usize = deployment
        .stored()
        .await
        .into_iter()
        .filter(|((metric, llm), _)| llm == "mine" && metric != "rps")
        .map(|(_, values)| values.len())
        .sum();
    let of_the_run: usize = measured(&bench.results()).values().map(Vec::len).sum();
    assert_eq!(in_postgres, of_the_run);
    assert_eq!(deployment.api.values("source=simulated").await, 160);
}

#[tokio::test]
async fn two_runs_into_one_directory_are_two_runs() {
    let bench = Bench::quick();
    for requests in ["60", "20"] {
        let base = bench.mock.base_url();
        let mut command = load_test(&base, "--model mine --no-calibration --allow-invalid --publish");
        command
            .args(["--max-num-completed-requests", requests, "--results-dir"])
            .arg(bench.results())
            .env("DATA_DIR", bench.data());
        done(command);
    }
    let second = super::json(&bench.results().join("run.json"))["run_id"].clone();
    let (process, api) = serving(&bench.data(), false);
    let batches = api.batches().await.len();
    let mut again = program("llm-bench");
    again
        .arg("publish")
        .arg(bench.results())
        .env("DATA_DIR", bench.data());
    done(again);
    let all = api.batches().await;
    assert_eq!(all.len(), batches, "a repetition changes nothing");
    let of_the_second: Vec<_> = all
        .iter()
        .filter(|batch| batch["run_id"] == second && batch["metric"] == "ttft")
        .flat_map(|batch| batch["values"].as_array().unwrap().clone())
        .map(|value| value.as_f64().unwrap())
        .collect();
    assert_eq!(
        super::measured::sorted(of_the_second),
        measured(&bench.results())["ttft"]
    );
    process.stop();
}
