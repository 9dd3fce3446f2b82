//! What a deployment repairs by itself, and what an operator repairs with `llm-bench`.

use futures::future::join_all;
use lapin::options::QueuePurgeOptions;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use test_patience::{found, soon, until};
use test_servers::{shared_postgres, shared_rabbitmq};

use crate::{
    amqp::{DEAD_QUEUE, QUEUE, channel, publish_to_queue, waiting},
    process::{free_address, run},
    real_servers::Deployment,
    tcp_proxy::TcpProxy,
};

async fn sql(deployment: &Deployment) -> PgConnection {
    PgConnection::connect(&deployment.database).await.unwrap()
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .fetch_one(connection)
        .await
        .unwrap()
}

/// A deployment with batches that are stored and published, and that the broker has lost.
async fn deployment_with_lost_batches() -> Deployment {
    let busy = [("SIMULATION_INTERVAL", "0.1"), ("NUM_DATA_POINTS", "20")];
    let mut deployment = Deployment::without_benchmark(&busy).await;
    // A batch leaves the outbox when the broker has confirmed it: then it waits in the queue, which is declared.
    let mut connection = sql(&deployment).await;
    until("batches are published", async || {
        let published: Result<i64, _> =
            sqlx::query_scalar("SELECT (SELECT count(*) FROM batches) - (SELECT count(*) FROM outbox)")
                .fetch_one(&mut connection)
                .await;
        // The simulation may not have made the tables yet.
        published.is_ok_and(|published| published >= 64)
    })
    .await;
    deployment.stop_simulation();
    // Whatever is left in the outbox is published by the next service.
    let channel = channel(&deployment.amqp).await;
    let purged = channel
        .queue_purge(QUEUE.into(), QueuePurgeOptions::default())
        .await
        .unwrap();
    assert!(purged >= 64, "the fault really happened: {purged}");
    deployment
}

fn llm_bench(deployment: &Deployment, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = deployment.command("llm-bench");
    command.args(arguments).env("RECONCILE_GRACE_SECONDS", "1");
    let done = run(command);
    let said = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn batches_that_the_broker_lost_are_counted_after_all() {
    let mut deployment = deployment_with_lost_batches().await;
    let address = free_address();
    deployment.api.url = format!("http://{address}");
    let eager = [
        ("RECONCILE_INTERVAL_SECONDS", "1"),
        ("RECONCILE_GRACE_SECONDS", "1"),
    ];
    let service = deployment.benchmark_at(&address, &eager);
    deployment.assert_exact("").await;
    let page = found("the metrics say that batches were sent again", async || {
        let page = deployment.api.text("/metrics").await;
        let requeued = page
            .lines()
            .find_map(|line| line.strip_prefix("llm_bench_reconcile_requeued_total "));
        let requeued: u64 = requeued.unwrap().parse().unwrap();
        (requeued > 0).then_some(page)
    })
    .await;
    assert!(page.contains("\nllm_bench_reconcile_mismatches 0\n"), "{page}");
    service.stop();
}

#[tokio::test]
async fn an_operator_reconciles_at_once_and_is_told_of_statistics_that_are_wrong() {
    let mut deployment = deployment_with_lost_batches().await;
    let address = free_address();
    deployment.api.url = format!("http://{address}");
    // This one would reconcile tomorrow.
    let lazy = [("RECONCILE_INTERVAL_SECONDS", "86400")];
    let service = deployment.benchmark_at(&address, &lazy);
    // The younger ones only once nothing waits in the queue any more.
    let mut sent_again = false;
    let mut connection = sql(&deployment).await;
    until("lost batches are found, sent again and counted", async || {
        let (status, said) = llm_bench(&deployment, &["reconcile"]);
        assert_eq!(status, Some(0), "{said}");
        sent_again |= said.contains("to be sent again");
        count(&mut connection, "ledger").await == count(&mut connection, "batches").await
    })
    .await;
    assert!(sent_again);
    deployment.assert_exact("").await;

    let tampered = sqlx::query(
        "UPDATE statistics SET state = other.state FROM statistics AS other
         WHERE statistics.period = other.period AND statistics.llm_id = 1 AND other.llm_id = 2
           AND statistics.metric_id = 1 AND other.metric_id = 1 AND statistics.period > 0",
    );
    let rows = tampered.execute(&mut connection).await.unwrap().rows_affected();
    assert!(rows > 0);
    let (status, said) = llm_bench(&deployment, &["reconcile"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("run `llm-bench rebuild`"), "{said}");
    assert_eq!(llm_bench(&deployment, &["rebuild"]).0, Some(0));
    let (status, said) = llm_bench(&deployment, &["reconcile"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("every statistic is what they say"), "{said}");
    service.stop();
}

#[tokio::test]
async fn what_is_older_than_the_retention_goes_and_the_rankings_stay() {
    let mut deployment = Deployment::shared(&[]).await;
    deployment.ranked("", 16_000).await;
    let old = br#"{"llm_name": "GPT-4o", "metric": "ttft", "values": [0.5, 0.25], "timestamp": "2024-09-27T11:29:13Z"}"#;
    let broker = channel(&deployment.amqp).await;
    publish_to_queue(&broker, old).await;
    deployment.ranked("source=imported", 2).await;
    deployment.benchmark.take().unwrap().stop();

    let address = free_address();
    deployment.api.url = format!("http://{address}");
    let _service = deployment.benchmark_at(&address, &[("RETENTION_DAYS", "30")]);
    let mut connection = sql(&deployment).await;
    until("the old batch is gone", async || {
        deployment.api.get("/api/v1/batches?source=imported").await.1["data"] == json!([])
    })
    .await;
    deployment.ranked("source=imported", 2).await;
    assert_eq!(count(&mut connection, "batches").await, 16);

    // Nobody can know any more whether this one was counted.
    publish_to_queue(&broker, old).await;
    until("its repetition is a dead letter", async || {
        waiting(&broker, DEAD_QUEUE).await == 1
    })
    .await;
    let (_, said) = llm_bench(&deployment, &["dead-letters", "list"]);
    assert!(said.contains("older batches are not"), "{said}");
    deployment.ranked("source=imported", 2).await;
    let (status, said) = llm_bench(&deployment, &["reconcile"]);
    assert_eq!(status, Some(0), "{said}");
}

#[tokio::test]
async fn what_is_done_with_dead_letters_is_on_record() {
    let deployment = Deployment::shared(&[]).await;
    deployment.ranked("", 16_000).await;
    let broker = channel(&deployment.amqp).await;
    for poison in ["not JSON at all", "[]"] {
        publish_to_queue(&broker, poison.as_bytes()).await;
    }
    let dead_letters = |arguments: &[&str]| llm_bench(&deployment, &[&["dead-letters"], arguments].concat());
    until("both are dead", async || waiting(&broker, DEAD_QUEUE).await == 2).await;
    assert!(dead_letters(&["log"]).1.contains("nothing was done"));

    // With the database away nothing is done, unless it is to be done without an entry.
    let unlogged = |arguments: &[&str]| {
        let mut command = deployment.command("llm-bench");
        command
            .arg("dead-letters")
            .args(arguments)
            .env(
                "DATABASE_URL",
                format!("postgres://nobody@{}/none", free_address()),
            )
            .env("MAX_RETRIES", "0");
        let done = run(command);
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    let (status, told) = unlogged(&["discard", "--all"]);
    assert_eq!(status, Some(1));
    assert!(told.contains("--no-log"), "{told}");
    assert!(dead_letters(&["list"]).1.matches("expected").count() >= 2);

    let (status, said) = dead_letters(&["discard", "--all"]);
    assert!(status == Some(0) && said.contains("discarded 2"), "{said}");
    let mut connection = sql(&deployment).await;
    assert_both_are_logged_as_discarded(&mut connection).await;
    let log = dead_letters(&["log"]).1;
    assert!(log.matches("discard").count() >= 2, "{log}");

    publish_to_queue(&broker, b"{}").await;
    until("the third is dead", async || {
        waiting(&broker, DEAD_QUEUE).await == 1
    })
    .await;
    assert_eq!(unlogged(&["discard", "--all", "--no-log"]).0, Some(0));
    assert_eq!(count(&mut connection, "dead_letter_log").await, 2);
}

/// Asserts that the log has both entries with their bodies and the operator.
async fn assert_both_are_logged_as_discarded(connection: &mut PgConnection) {
    let kept: Vec<(String, bool, bool)> = sqlx::query_as(
        "SELECT convert_from(body, 'UTF8'), operator LIKE '%_@_%', done_at IS NOT NULL
         FROM dead_letter_log WHERE action = 'discard' ORDER BY 1",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    let bodies: Vec<_> = kept.iter().map(|(body, ..)| body.as_str()).collect();
    assert_eq!(bodies, ["[]", "not JSON at all"]);
    assert!(
        kept.iter().all(|(_, by_whom, done)| *by_whom && *done),
        "{kept:?}"
    );
}

const RANKING: &str = "/api/v1/rankings/ttft";

/// Waits until the service reports that database and broker are missing; returns the rankings that it serves.
async fn stale_and_not_ready(deployment: &Deployment) -> Value {
    let ranking = async || deployment.api.get(RANKING).await;
    until("stale", async || ranking().await.1["stale"] == true).await;
    let (status, stale) = ranking().await;
    assert_eq!(status, 200);
    assert_eq!(stale["data"][0]["n"], 1000);
    assert_eq!(deployment.api.get("/healthz").await.0, 200);
    // Each is noticed in its own time.
    until("all of them missing", async || {
        let (status, report) = deployment.api.get("/readyz").await;
        let is_missing = |component: &str| report["components"][component]["state"] == "missing";
        status == 503
            && ["database", "broker_publish", "broker_consume"]
                .iter()
                .all(|it| is_missing(it))
    })
    .await;
    stale
}

#[tokio::test]
async fn rankings_are_served_while_both_servers_are_away_and_say_that_they_are_stale() {
    let database = shared_postgres().await.create_database().await.unwrap();
    let amqp = shared_rabbitmq().await.create_vhost().await.unwrap();
    let (mut postgres_proxy, database) = TcpProxy::before(&database, 5432).await;
    let (mut rabbitmq_proxy, amqp) = TcpProxy::before(&amqp, 5672).await;
    let mut deployment = Deployment::on(database, amqp, &[]);
    // By itself the storage would try for minutes: who answers before has a deadline of its own.
    deployment.start_benchmark(&[("MAX_RETRIES", "100")]);
    deployment.start_simulation();
    deployment.ranked("", 16_000).await;
    until("ready", async || deployment.api.get("/readyz").await.0 == 200).await;

    postgres_proxy.close().await;
    rabbitmq_proxy.close().await;
    let batch = json!({
        "llm_name": "GPT-4o", "metric": "ttft", "values": [0.5], "timestamp": "2026-01-01T00:00:00Z",
    });
    let post = || deployment.api.post("/api/v1/batches", &batch);
    let answered = soon(
        "answers while the database is away",
        join_all((0..4).map(|_| post())),
    );
    let (sent, stale) = tokio::join!(answered, stale_and_not_ready(&deployment));
    for (status, answer) in &sent {
        assert_eq!(*status, 503, "{answer}");
        assert!(
            answer["detail"]
                .as_str()
                .unwrap()
                .contains("may or may not be stored"),
            "{answer}"
        );
    }

    postgres_proxy.open().await;
    rabbitmq_proxy.open().await;
    until("fresh again", async || {
        let (_, fresh) = deployment.api.get(RANKING).await;
        fresh["stale"] == false && fresh["as_of"].as_str() > stale["as_of"].as_str()
    })
    .await;
    until("the repetition is taken", async || post().await.0 == 202).await;
    deployment.ranked("source=imported", 1).await;
}
