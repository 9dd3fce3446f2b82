use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use test_patience::until;

use crate::app::{TestApp, batch, problem};

async fn with_two_llms() -> TestApp {
    let app = TestApp::start().await;
    app.publish_and_wait("GPT-4o", "ttft", &[0.5, 0.25, 0.75, 0.5])
        .await;
    app.publish_and_wait("Llama 3.1 405", "ttft", &[1.5, 1.25, 1.75, 1.5])
        .await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn rankings_have_the_shape_that_clients_know() {
    let app = with_two_llms().await;
    insta::assert_json_snapshot!("all", app.get_json("/api/v1/benchmarks/rankings").await);
    insta::assert_json_snapshot!("one", app.get_json("/api/v1/benchmarks/rankings/ttft").await);
    insta::assert_json_snapshot!("plain", app.get_json("/ranking/ttft").await);
    insta::assert_json_snapshot!("numbered", app.get_json("/api/v1/benchmark/ttft").await);
    assert_eq!(
        app.get("/api/v1/rankings/TTFT/").await.bytes().await.unwrap(),
        app.get("/api/v1/benchmarks/rankings/ttft")
            .await
            .bytes()
            .await
            .unwrap()
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_holds_the_same_rows() {
    let app = with_two_llms().await;
    let response = app.get("/api/v1/benchmarks/rankings?format=csv").await;
    assert_eq!(
        response.headers()["content-type"],
        "text/csv; charset=utf-8; header=present"
    );
    insta::assert_snapshot!("csv", response.text().await.unwrap());
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn direction_source_window_and_statistic_decide() {
    let app = with_two_llms().await;
    app.publish_and_wait("GPT-4o", "tps", &[10.0; 3]).await;
    app.publish_and_wait("Llama 3.1 405", "tps", &[20.0; 3]).await;
    let first = |ranking: Value| ranking["data"][0]["llm"].clone();
    assert_eq!(first(app.get_json("/api/v1/rankings/ttft").await), "GPT-4o");
    assert_eq!(first(app.get_json("/api/v1/rankings/tps").await), "Llama 3.1 405");
    assert_eq!(
        app.get_json("/api/v1/rankings/ttft?source=measured").await["data"],
        json!([])
    );
    assert_eq!(
        app.get_json("/api/v1/rankings/ttft?source=all&window=1h&statistic=p99")
            .await["data"][1]["rank"],
        2
    );

    app.clock.advance(TimeDelta::hours(3));
    until("the batches leave the window of an hour", async || {
        app.get_json("/api/v1/rankings/ttft?window=1h").await["data"] == json!([])
    })
    .await;
    assert_eq!(app.counted_values("GPT-4o", "ttft").await, 4);
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_labelled_and_ranked_apart() {
    let app = with_two_llms().await;
    let mut measured = batch("GPT-4o", "ttft", &[9.0, 9.0]);
    measured["source"] = "measured".into();
    app.publish(measured.to_string()).await;
    until("the measured values show", async || {
        app.get_json("/api/v1/rankings/ttft?source=measured").await["data"][0]["mean"] == 9.0
    })
    .await;
    let all = app.get_json("/api/v1/rankings/ttft?source=all").await;
    let rows: Vec<_> = all["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["source"].as_str().unwrap(),
                row["llm"].as_str().unwrap(),
                row["rank"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("simulated", "GPT-4o", 1),
            ("simulated", "Llama 3.1 405", 2),
            ("measured", "GPT-4o", 1)
        ]
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_exact_unless_rounding_is_asked_for() {
    let app = TestApp::start().await;
    app.publish_and_wait("GPT-4o", "ttft", &[0.1, 1e16, 0.2, -1e16, 0.3])
        .await;
    let mean = async |path: &str| app.get_json(path).await["data"][0]["mean"].clone();
    assert_eq!(mean("/api/v1/rankings/ttft").await, 0.12);
    app.publish_and_wait("Llama 3.1 405", "tps", &[1.0, 1.0, 1.01])
        .await;
    // The double nearest to the exact mean; (1.0 + 1.0 + 1.01) / 3.0 rounds twice and is another one.
    assert_eq!(mean("/api/v1/rankings/tps").await, 1.003_333_333_333_333_4);
    assert_eq!(mean("/api/v1/rankings/tps?round=2").await, 1.0);
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etag_saves_the_body_until_something_changes() {
    let app = with_two_llms().await;
    let path = "/api/v1/benchmarks/rankings";
    let etag = app.get(path).await.headers()["etag"].to_str().unwrap().to_owned();
    assert!(etag.starts_with('"'));
    let ask = async |tags: &str| {
        let request = app.request(Method::GET, path).header("If-None-Match", tags);
        request.send().await.unwrap()
    };
    for tags in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let response = ask(&tags).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{tags}");
        assert_eq!(response.headers()["etag"].to_str().unwrap(), etag);
        assert!(response.bytes().await.unwrap().is_empty());
    }
    app.publish_and_wait("GPT-4o", "ttft", &[0.125]).await;
    assert_eq!(ask(&etag).await.status(), StatusCode::OK);
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_parameters_are_named() {
    let app = TestApp::start().await;
    let refused = app
        .get("/api/v1/benchmarks/rankings?window=2h&statistic=max&round=16&colour=red")
        .await;
    insta::assert_json_snapshot!("refused_parameters", problem(refused, 400).await);
    let unknown = app.get("/api/v1/rankings/speed").await;
    insta::assert_json_snapshot!("unknown_metric", problem(unknown, 404).await);
    for path in ["/ranking/a%00b", "/api/v1/rankings/ttft?source=%00"] {
        problem(app.get(path).await, 400).await;
    }
    problem(app.get("/ranking/%FF").await, 404).await;
    app.end().await;
}
