use reqwest::Method;
use serde_json::{Value, json};
use test_patience::until;

use crate::app::{TestApp, batch, problem};

async fn data(response: reqwest::Response, status: u16) -> Value {
    assert_eq!(response.status(), status, "{}", response.url());
    response.json::<Value>().await.unwrap()["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn llms_are_registered_changed_and_archived() {
    let app = TestApp::start().await;
    insta::assert_json_snapshot!("llms", app.get_json("/api/v1/llms").await);
    let mine = json!({"name": "Mine", "creator": "me"});
    let created = data(app.send(Method::POST, "/api/v1/llms", &mine).await, 201).await;
    let path = format!("/api/v1/llms/{}", created["id"]);
    problem(app.send(Method::POST, "/api/v1/llms", &mine).await, 409).await;

    let changed = app.send(Method::PATCH, &path, &json!({"creator": "us"})).await;
    assert_eq!(data(changed, 200).await["creator"], "us");

    app.publish_and_wait("Mine", "ttft", &[1.0]).await;
    assert_eq!(app.send(Method::DELETE, &path, &json!({})).await.status(), 204);
    app.until_counted("Mine", "ttft", 0).await;
    problem(app.send(Method::DELETE, &path, &json!({})).await, 404).await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_registered_changed_and_archived() {
    let app = TestApp::start().await;
    insta::assert_json_snapshot!("metrics", app.get_json("/api/v1/metrics").await);
    let tpot =
        json!({"title": "TPOT", "lower_bound": 0.001, "upper_bound": 1, "unit": "s", "better": "lower"});
    let created = data(app.send(Method::POST, "/api/v1/metrics", &tpot).await, 201).await;
    assert_eq!(created["title"], "tpot");
    let path = format!("/api/v1/metrics/{}", created["id"]);
    problem(app.send(Method::POST, "/api/v1/metrics", &tpot).await, 409).await;
    until("the metric has a ranking without rows", async || {
        app.get("/api/v1/rankings/tpot").await.status() == 200
    })
    .await;

    let changed = app.send(Method::PATCH, &path, &json!({"better": "higher"})).await;
    assert_eq!(data(changed, 200).await["better"], "higher");
    problem(
        app.send(Method::PATCH, &path, &json!({"lower_bound": 2})).await,
        422,
    )
    .await;

    assert_eq!(app.send(Method::DELETE, &path, &json!({})).await.status(), 204);
    until("the archived metric has left the rankings", async || {
        app.get("/api/v1/rankings/tpot").await.status() == 404
    })
    .await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_fields_are_named() {
    let app = TestApp::start().await;
    let refused = [
        (
            "/api/v1/llms",
            json!({"name": "a\u{0}b", "creator": "me"}),
            "name",
        ),
        (
            "/api/v1/llms",
            json!({"name": "x".repeat(201), "creator": "me"}),
            "name",
        ),
        (
            "/api/v1/llms",
            json!({"name": "a", "creator": "me", "colour": 1}),
            "colour",
        ),
        (
            "/api/v1/metrics",
            json!({"title": "a", "lower_bound": 2, "upper_bound": 1}),
            "lower_bound",
        ),
        (
            "/api/v1/metrics",
            json!({"title": "a", "lower_bound": "x", "upper_bound": 1}),
            "lower_bound",
        ),
    ];
    for (path, body, field) in refused {
        let told = problem(app.send(Method::POST, path, &body).await, 422).await;
        assert_eq!(told["errors"][0]["field"], field, "{told}");
    }
    for path in ["/api/v1/llms/x", "/api/v1/metrics/%00"] {
        problem(app.send(Method::DELETE, path, &json!({})).await, 400).await;
    }
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_llm_in_a_message_is_registered() {
    let app = TestApp::start().await;
    app.publish_and_wait("Newcomer", "ttft", &[1.0]).await;
    let llms = app.get_json("/api/v1/llms").await;
    let newcomer = llms["data"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&newcomer["name"], &newcomer["creator"]),
        (&json!("Newcomer"), &json!("unknown"))
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_has_one_row_per_bucket() {
    let app = TestApp::start().await;
    for (timestamp, values) in [
        ("2026-05-01T10:59:59Z", vec![1.0, 2.0]),
        ("2026-05-01T11:00:00Z", vec![3.0]),
        ("2026-04-30T11:00:00Z", vec![5.0]),
    ] {
        let mut hour = batch("GPT-4o", "ttft", &values);
        hour["timestamp"] = timestamp.into();
        app.publish(hour.to_string()).await;
    }
    let path = "/api/v1/history?llm=GPT-4o&metric=TTFT";
    insta::assert_json_snapshot!("history_hours", app.get_json(path).await);
    insta::assert_json_snapshot!("history_days", app.get_json(&format!("{path}&bucket=1d")).await);
    let bounded = format!("{path}&from=2026-05-01T11:00:00Z&to=2026-05-01T11:00:00Z");
    assert_eq!(app.get_json(&bounded).await["data"].as_array().unwrap().len(), 1);
    problem(app.get("/api/v1/history?llm=nobody&metric=ttft").await, 404).await;
    problem(app.get("/api/v1/history?llm=GPT-4o&metric=speed").await, 404).await;
    let missing = problem(app.get("/api/v1/history").await, 400).await;
    assert_eq!(missing["errors"].as_array().unwrap().len(), 2);
    app.end().await;
}
