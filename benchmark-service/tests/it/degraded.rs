//! What clients see while the database or the broker is away.

use std::{sync::atomic::Ordering, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use test_patience::{found, patience, until};

use crate::{
    app::{Options, TestApp, batch, now, problem},
    faulty::Fault,
};

const PATH: &str = "/api/v1/rankings/ttft";
/// Longer than the interval between two refreshes: after a slow refresh the service pauses for up to 2 s.
const STALE_AFTER: Duration = Duration::from_secs(3);
/// The deadline of requests that wait for a database which never answers.
const DEADLINE: Duration = Duration::from_millis(500);

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

fn as_of(response: &Response) -> DateTime<Utc> {
    header(response, "x-data-as-of").parse().unwrap()
}

/// Waits for rankings that are stale, or for rankings that are not; returns the response.
async fn first(app: &TestApp, stale: bool) -> Response {
    found(&format!("rankings that are stale: {stale}"), async || {
        let response = app.get(PATH).await;
        (header(&response, "x-data-stale") == stale.to_string()).then_some(response)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rankings_are_confirmed_again_and_again_without_a_new_body() {
    let app = TestApp::start().await;
    app.publish_and_wait("GPT-4o", "ttft", &[1.0]).await;
    let fresh = app.get(PATH).await;
    assert_eq!(header(&fresh, "x-data-stale"), "false");
    let fresh_tag = header(&fresh, "etag").to_owned();
    let body: Value = fresh.json().await.unwrap();
    assert_eq!(
        (&body["stale"], &body["as_of"]),
        (&false.into(), &"2026-05-01T12:30:00Z".into())
    );

    app.clock.advance(TimeDelta::minutes(1));
    until("the confirmation moves on without a new body", async || {
        let response = app.get(PATH).await;
        assert_eq!(header(&response, "etag"), fresh_tag);
        as_of(&response) == now() + TimeDelta::minutes(1)
    })
    .await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rankings_without_a_database_say_that_they_are_stale_and_since_when() {
    let app = TestApp::with(Options::stale_after(STALE_AFTER)).await;
    app.publish_and_wait("GPT-4o", "ttft", &[1.0]).await;
    let fresh_tag = header(&first(&app, false).await, "etag").to_owned();

    app.storage.set(Some(Fault::Silent));
    app.clock.advance(TimeDelta::minutes(1));
    let response = first(&app, true).await;
    let age = app.metric_value("llm_bench_snapshot_age_seconds").await;
    assert!(age > STALE_AFTER.as_secs_f64(), "a short absence is none: {age}");
    let confirmed = as_of(&response);
    assert_eq!(confirmed, now(), "when the database last answered");
    let stale_tag = header(&response, "etag").to_owned();
    assert_ne!(stale_tag, fresh_tag);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["stale"], true);
    assert_eq!(
        body["as_of"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap(),
        confirmed
    );
    assert_eq!(body["data"][0]["n"], 1);

    assert_every_form_is_stale(&app, &stale_tag, confirmed).await;
    assert_operators_see_it(&app).await;
    app.storage.set(None);
    app.end().await;
}

/// A response without a body (304), the bodies for older clients and CSV have the freshness in their headers only.
async fn assert_every_form_is_stale(app: &TestApp, tag: &str, confirmed: DateTime<Utc>) {
    let unchanged = app.request(Method::GET, PATH).header("If-None-Match", tag);
    let unchanged = unchanged.send().await.unwrap();
    assert_eq!(
        (unchanged.status().as_u16(), header(&unchanged, "x-data-stale")),
        (304, "true")
    );
    for path in [
        "/ranking/ttft",
        "/api/v1/benchmark/ttft",
        "/api/v1/benchmarks/rankings?format=csv",
    ] {
        let response = app.get(path).await;
        assert_eq!(
            (header(&response, "x-data-stale"), as_of(&response)),
            ("true", confirmed),
            "{path}"
        );
        assert!(!response.text().await.unwrap().contains("stale"), "{path}");
    }
}

async fn assert_operators_see_it(app: &TestApp) {
    assert_eq!(app.metric_value("llm_bench_snapshot_stale").await, 1.0);
    // A load balancer goes on sending requests; an alert is raised.
    assert_eq!(app.get("/servingz").await.status(), 200);
    let refused = app.get("/readyz").await;
    assert_eq!(refused.status(), 503);
    let report: Value = refused.json().await.unwrap();
    for missing in ["database", "rankings"] {
        assert_eq!(report["components"][missing]["state"], "missing", "{report}");
    }
    assert_eq!(app.get("/healthz").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rankings_become_fresh_again_when_the_database_returns() {
    let app = TestApp::with(Options::stale_after(STALE_AFTER)).await;
    app.publish_and_wait("GPT-4o", "ttft", &[1.0]).await;
    app.storage.set(Some(Fault::Away));
    first(&app, true).await;
    app.storage.set(None);
    app.clock.advance(TimeDelta::minutes(1));
    let body: Value = first(&app, false).await.json().await.unwrap();
    assert_eq!(
        (&body["stale"], &body["data"][0]["n"]),
        (&false.into(), &1.into())
    );
    app.until_ready().await;
    until("operators see that nothing is stale", async || {
        app.metric_value("llm_bench_snapshot_stale").await == 0.0
    })
    .await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rankings_are_stale_while_the_consumer_holds_though_the_database_answers() {
    let app = TestApp::with(Options::stale_after(STALE_AFTER)).await;
    app.publish_and_wait("GPT-4o", "ttft", &[1.0]).await;
    app.storage.set(Some(Fault::RefusesWrites));
    let held = async {
        until(
            "the rankings are stale, though the database answers",
            async || {
                let stale = app.get_json(PATH).await["stale"] == true;
                let report: Value = app.get("/readyz").await.json().await.unwrap();
                let state = |component: &str| &report["components"][component]["state"];
                stale && state("consumer") == "missing" && state("rankings") == "ready"
            },
        )
        .await;
        app.storage.set(None);
    };
    tokio::join!(app.publish(batch("GPT-4o", "ttft", &[2.0]).to_string()), held);
    until("they are fresh and complete", async || {
        let body = app.get_json(PATH).await;
        body["stale"] == false && body["data"][0]["n"] == 2
    })
    .await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_a_silent_database_is_answered() {
    let app = TestApp::with(Options::database_deadline(DEADLINE)).await;
    app.storage.set(Some(Fault::Silent));
    let sent_batch = batch("GPT-4o", "ttft", &[1.0]);
    let new_llm = json!({"name": "New", "creator": "Somebody"});
    let (sent, listed, created) = tokio::join!(
        app.send(Method::POST, "/api/v1/batches", &sent_batch),
        app.get("/api/v1/batches"),
        app.send(Method::POST, "/api/v1/llms", &new_llm),
    );
    for (response, told) in [
        (
            sent,
            "may or may not be stored; sending the same request again is safe",
        ),
        (listed, "send the request again later"),
        (created, "read before sending it again"),
    ] {
        assert_eq!(header(&response, "retry-after"), "2");
        let problem = problem(response, 503).await;
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
    }
    app.storage.set(None);
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_about_to_end_is_not_ready_and_answers_on_connections_that_it_closes() {
    let app = TestApp::start().await;
    app.publish_and_wait("GPT-4o", "ttft", &[1.0]).await;
    assert!(!app.get(PATH).await.headers().contains_key("connection"));
    app.life.leave();
    let report = app.get("/readyz").await;
    assert_eq!(report.status(), 503);
    let report: Value = report.json().await.unwrap();
    assert_eq!(report["components"]["process"]["state"], "missing", "{report}");
    assert_eq!(app.get("/healthz").await.status(), 200);
    let answer = app.get(PATH).await;
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "connection")),
        (200, "close")
    );
    app.publish_and_wait("GPT-4o", "ttft", &[2.0]).await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_answered_by_a_service_that_ends() {
    let mut deadline = DEADLINE;
    // On a busy machine the deadline may pass before the service begins to end.
    while !is_answered_after_the_end_began(deadline).await {
        assert!(deadline < patience(), "not even in {deadline:?}");
        deadline *= 2;
    }
}

/// Ends a service while a request waits for the database, and checks the response. Returns whether the response came after
/// the shutdown had begun.
async fn is_answered_after_the_end_began(deadline: Duration) -> bool {
    let app = TestApp::with(Options::database_deadline(deadline)).await;
    app.storage.set(Some(Fault::Silent));
    let body = batch("GPT-4o", "ttft", &[1.0]);
    let asked = async {
        let answer = app.send(Method::POST, "/api/v1/batches", &body).await;
        (answer, app.life.shutdown().is_cancelled())
    };
    let ended = async {
        until("the request waits for the database", async || {
            app.storage.waiting.load(Ordering::Relaxed) > 0
        })
        .await;
        app.life.end();
    };
    let ((answer, has_begun_to_end), ()) = tokio::join!(asked, ended);
    problem(answer, 503).await;
    app.end().await;
    has_begun_to_end
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_alerts_is_exported() {
    /// Metrics of the simulation service, and of connections to a broker server, which this service does not have.
    const ELSEWHERE: [&str; 2] = [
        "llm_bench_broker_blocked_seconds_total",
        "llm_bench_simulation_ticks_total",
    ];
    let app = TestApp::start().await;
    let page = app.get("/metrics").await.text().await.unwrap();
    let rules = include_str!("../../../k8s/alerts.yaml");
    let names: Vec<_> = rules
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("llm_bench_") && !ELSEWHERE.contains(word))
        .collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let exported = page
            .lines()
            .any(|line| line.starts_with(name) && line[name.len()..].starts_with([' ', '{']));
        assert!(exported, "{name}");
    }
    app.end().await;
}
