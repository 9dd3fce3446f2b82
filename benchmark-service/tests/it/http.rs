use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::app::{ADMIN, TestApp, batch, problem};

#[tokio::test(flavor = "multi_thread")]
async fn open_pages_answer_and_load_nothing_from_elsewhere() {
    let app = TestApp::start().await;
    for (path, form, holds) in [
        ("/", "text/html; charset=utf-8", "llm-bench"),
        ("/docs/", "text/html; charset=utf-8", "swagger-ui.css"),
        ("/docs/swagger-ui.css", "text/css; charset=utf-8", ".swagger-ui"),
        ("/docs/index.css", "text/css; charset=utf-8", "html"),
        (
            "/docs/swagger-ui-bundle.js",
            "text/javascript; charset=utf-8",
            "SwaggerUIBundle",
        ),
        (
            "/docs/swagger-ui-standalone-preset.js",
            "text/javascript; charset=utf-8",
            "SwaggerUIStandalonePreset",
        ),
        (
            "/docs/swagger-initializer.js",
            "text/javascript; charset=utf-8",
            "/openapi.json",
        ),
        ("/redoc", "text/html; charset=utf-8", "/redoc/redoc.standalone.js"),
        (
            "/redoc/redoc.standalone.js",
            "text/javascript; charset=utf-8",
            "Redoc",
        ),
        ("/openapi.json", "application/json", "\"openapi\""),
        ("/status", "application/json", "benchmark-service"),
        ("/healthz", "application/json", "alive"),
        ("/readyz", "application/json", "rankings"),
        (
            "/metrics",
            "text/plain; version=0.0.4",
            "llm_bench_snapshot_age_seconds",
        ),
    ] {
        let response = app.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], form, "{path}");
        let text = response.text().await.unwrap();
        assert!(text.contains(holds), "{path}");
        if form.starts_with("text/html") {
            assert!(
                !text.contains("src=\"http") && !text.contains("href=\"http"),
                "{path}"
            );
        }
    }
    let redirect = app.get("/docs").await;
    assert_eq!(
        (redirect.status().as_u16(), &redirect.headers()["location"]),
        (302, &"/docs/".parse().unwrap())
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_framework_are_problems_too() {
    let app = TestApp::start().await;
    problem(app.get("/nothing/here").await, 404).await;
    problem(app.get("/docs/nothing.js").await, 404).await;
    let refused = app.send(Method::PUT, "/api/v1/llms", &json!({})).await;
    assert_eq!(refused.headers()["allow"], "OPTIONS, GET, HEAD, POST");
    problem(refused, 405).await;
    problem(app.send(Method::POST, "/healthz", &json!({})).await, 405).await;
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_the_body_and_options_names_the_methods() {
    let app = TestApp::start().await;
    let path = "/api/v1/benchmarks/rankings";
    let (get, head) = (
        app.get(path).await,
        app.request(Method::HEAD, path).send().await.unwrap(),
    );
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["etag"], get.headers()["etag"]);
    assert_eq!(head.headers()["content-length"], get.headers()["content-length"]);
    assert!(head.bytes().await.unwrap().is_empty());
    let options = app.request(Method::OPTIONS, path).send().await.unwrap();
    assert_eq!(
        (options.status().as_u16(), &options.headers()["allow"]),
        (204, &"OPTIONS, GET, HEAD".parse().unwrap())
    );
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trailing_slashes_are_accepted() {
    let app = TestApp::start().await;
    for path in [
        "/api/v1/llms/",
        "/api/v1/benchmarks/rankings/?window=all",
        "/status/",
        "/api/v1/rankings/ttft//",
    ] {
        assert_eq!(app.get(path).await.status(), 200, "{path}");
    }
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_limits() {
    let app = TestApp::start().await;
    let small = "x".repeat(64 * 1024 + 1);
    let large = vec![b' '; 16 * 1024 * 1024 + 1];
    problem(app.post("/api/v1/llms", small).send().await.unwrap(), 413).await;
    problem(app.post("/api/v1/batches", large).send().await.unwrap(), 413).await;

    let chunks = futures::stream::iter((0..17).map(|_| Ok::<_, std::io::Error>(vec![b' '; 8 * 1024])));
    let chunked = app.post("/api/v1/llms", reqwest::Body::wrap_stream(chunks));
    problem(chunked.send().await.unwrap(), 413).await;

    let bomb = app
        .post("/api/v1/batches", vec![0x1f, 0x8b])
        .header(header::CONTENT_ENCODING, "gzip");
    problem(bomb.send().await.unwrap(), 415).await;
    let text = app
        .request(Method::POST, "/api/v1/llms")
        .header("api-key", ADMIN)
        .body("{}");
    problem(text.send().await.unwrap(), 415).await;

    for (path, status) in [("/api/v1/batches", 400), ("/api/v1/llms", 422)] {
        let nested = app.post(path, "[".repeat(50_000)).send().await.unwrap();
        problem(nested, status).await;
    }
    for path in ["/api/v1/batches", "/api/v1/llms"] {
        problem(app.post(path, "{").send().await.unwrap(), 400).await;
    }
    let alive = app.request(Method::HEAD, "/healthz").send().await.unwrap();
    assert_eq!(alive.status(), 200);
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_describes_every_answer_of_the_rankings() {
    let app = TestApp::start().await;
    let document = app.get_json("/openapi.json").await;
    let responses = &document["paths"]["/api/v1/benchmarks/rankings/{metric}"]["get"]["responses"];
    for status in ["200", "304", "400", "401", "404", "429"] {
        assert!(responses.get(status).is_some(), "{status}");
    }
    let columns = document["components"]["schemas"]["RankingRow"]["properties"]
        .as_object()
        .unwrap();
    app.publish(batch("GPT-4o", "ttft", &[1.0, 2.0]).to_string())
        .await;
    app.until_counted("GPT-4o", "ttft", 2).await;
    let row: Value = app.get_json("/api/v1/rankings/ttft").await["data"][0].clone();
    let served: Vec<_> = row.as_object().unwrap().keys().collect();
    assert_eq!(columns.keys().collect::<Vec<_>>(), served);
    app.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route() {
    let app = TestApp::start().await;
    for _ in 0..3 {
        app.get("/ranking/ttft").await;
    }
    app.get("/ranking/speed").await;
    app.get("/nothing").await;
    let count = async |route: &str, status: &str| {
        let labels = format!("{{method=\"GET\",route=\"{route}\",status=\"{status}\"}}");
        app.metric_value(&format!("llm_bench_http_requests_total{labels}"))
            .await
    };
    assert_eq!(count("/ranking/{metric}", "200").await, 3.0);
    assert_eq!(count("/ranking/{metric}", "404").await, 1.0);
    assert_eq!(count("other", "404").await, 1.0);
    app.end().await;
}
