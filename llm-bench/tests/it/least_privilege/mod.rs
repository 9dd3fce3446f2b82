//! The services under roles and users that may do what a service does, and nothing else.

mod broker;
mod database;

use std::{fs, io::Read, process::Command};

use test_patience::until;

use crate::{
    amqp::{DEAD_QUEUE, channel, waiting},
    oracle::exact_mean,
    process::{Process, free_address, program},
    rankings::Api,
};
use broker::{Broker, assert_nothing_else_is_allowed, publish};
use database::Database;

const KEY: &str = "a-bootstrap-key-of-the-tests";
const PASSWORD: &str = "only-for-this-test";

fn random_name() -> String {
    let mut bytes = [0; 8];
    let mut source = fs::File::open("/dev/urandom").unwrap();
    source.read_exact(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same URL with another user, and the test's password.
fn as_user(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, place) = rest.rsplit_once('@').unwrap();
    format!("{scheme}://{user}:{PASSWORD}@{place}")
}

fn user_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    rest.split_once(':').unwrap().0
}

fn service(name: &str, database: &str, amqp: &str) -> Command {
    let mut command = program(name);
    command
        .env("DATABASE_URL", database)
        .env("AMQP_URL", amqp)
        .env("MIGRATE_AT_START", "false");
    command
}

#[tokio::test]
async fn the_pipeline_works_under_roles_that_may_do_nothing_else() {
    let (database, broker) = tokio::join!(Database::granted(), Broker::with_users());
    assert_nothing_else_is_allowed(&broker).await;
    let api = Api::with_key(&format!("http://{}", free_address()), KEY);
    let mut benchmark = service("benchmark-service", &database.consumer, &broker.consumer);
    benchmark
        .env("HTTP_ADDR", api.url.trim_start_matches("http://"))
        .env("API_KEY", KEY);
    let benchmark = Process::start(benchmark);
    let mut simulation = service("simulation-service", &database.producer, &broker.producer);
    simulation
        .env("SIMULATION_HTTP_ADDR", free_address())
        .env("SIMULATION_INTERVAL", "0.2")
        .env("NUM_DATA_POINTS", "100");
    let simulation = Process::start(simulation);
    until("some ticks are ranked", async || api.values("").await >= 5 * 1600).await;
    simulation.stop();

    let batch = serde_json::json!({
        "llm_name": "Brand new", "metric": "ttft", "values": [0.1, 0.2, 0.3], "timestamp": "2026-05-01T12:00:00Z",
    });
    let sent = api.post("/api/v1/batches", &batch).await;
    assert_eq!(sent.0, 202, "{}", sent.1);
    let llm = api
        .post(
            "/api/v1/llms",
            &serde_json::json!({"name": "By hand", "creator": "nobody"}),
        )
        .await;
    assert_eq!(llm.0, 201, "{}", llm.1);
    until("the batch of the API is ranked", async || {
        api.values("source=imported").await == 3
    })
    .await;
    let ranking = api.rankings("source=imported").await;
    assert_eq!(ranking["ttft"][0].mean, exact_mean(&[0.1, 0.2, 0.3]));

    let administrator = channel(broker.server.amqp_url()).await;
    publish(&administrator, "llm.batches", "batch.poison")
        .await
        .unwrap();
    until("poison is a dead letter", async || {
        waiting(&administrator, DEAD_QUEUE).await == 1
    })
    .await;
    until("ready", async || api.get("/readyz").await.0 == 200).await;
    benchmark.stop();
}
