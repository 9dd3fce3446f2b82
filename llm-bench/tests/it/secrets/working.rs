//! What services and commands say that work.

use std::fs::File;

use test_patience::until;

use super::{
    API_KEY, CANARIES, Said, WRONG_KEY, broker, command, database,
    stored::{assert_dump_holds_none, create_key},
};
use crate::{
    process::{Process, free_address},
    rankings::Api,
};

#[tokio::test]
async fn working_services_keep_their_secrets() {
    let (database, amqp) = (database().await, broker().await);
    let logs = tempfile::tempdir().unwrap();
    let log = |name: &str| logs.path().join(name);
    let api = Api::with_key(&format!("http://{}", free_address()), API_KEY);
    let mut said = Said::default();

    let stored_key = create_key(command("llm-bench", &database, &amqp), &mut said);
    let secret = stored_key.rsplit('_').next().unwrap();
    let mut benchmark = command("benchmark-service", &database, &amqp);
    benchmark
        .env("HTTP_ADDR", api.url.trim_start_matches("http://"))
        .stderr(File::create(log("benchmark")).unwrap());
    let benchmark = Process::start(benchmark);
    let mut simulation = command("simulation-service", &database, &amqp);
    simulation
        .env("SIMULATION_HTTP_ADDR", free_address())
        .env("NUM_DATA_POINTS", "10")
        .stderr(File::create(log("simulation")).unwrap());
    let simulation = Process::start(simulation);
    until("a tick is ranked", async || api.values("").await == 160).await;

    for key in [API_KEY, WRONG_KEY, &stored_key] {
        ask_with(key, &api.url, &mut said).await;
    }
    simulation.stop();
    benchmark.stop();
    said.note_log(&log("benchmark"));
    said.note_log(&log("simulation"));
    for arguments in [
        &["doctor"][..],
        &["keys", "list"],
        &["rankings", "ttft"],
        &["dead-letters", "list"],
    ] {
        let mut asked = command("llm-bench", &database, &amqp);
        asked.args(arguments);
        said.note_run(&arguments.join(" "), asked);
    }
    said.assert_silent_about(&CANARIES);
    said.assert_silent_about(&[secret]);
    assert_dump_holds_none(&database, secret).await;
}

/// Notes what the service answers to whoever has this key.
async fn ask_with(key: &str, url: &str, said: &mut Said) {
    let caller = Api::with_key(url, key);
    for path in [
        "/api/v1/llms",
        "/api/v1/history",
        "/readyz",
        "/metrics",
        "/openapi.json",
    ] {
        said.note(path, caller.text(path).await);
    }
}
